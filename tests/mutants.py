"""Takes out one rule of the design at a time and demands that a judge notices: `make mutants`.

A mutant is a text patch. It is applied to a copy of the tree, the judge is run there, and the judge
must fail. A patch whose old text is not there exactly once is an error, so that the list follows
the code. With names as arguments only those mutants are run.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
JUDGE_SECONDS_MAX: Final = 600.0
SIMULATION: Final = (
    *("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-o", "timeout=120"),
    *("tests/simulation/test_seeds.py", "tests/simulation/test_simulation.py"),
)
"""Arguments to Python; the judge of all that the core owes. The time is for a mutant that loops
without an end."""
UNIT: Final = (
    *("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-o", "timeout=60"),
    "tests/unit/core",
)
"""The judge of what the simulation meets too seldom: exact moments and sizes."""
SHELL: Final = ("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider")
"""The judge of what parts of the shell owe without a server; files follow."""
INTEGRATION: Final = (
    *("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"),
    "tests/integration/kafka/test_consumer.py",
)
"""The judge of what the shell owes to a real broker."""
TOPICS: Final = (
    *("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"),
    "tests/integration/worker/test_topics.py",
)
"""The judge of what topics that change, or refuse, must not do."""
CHAOS: Final = ("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "tests/chaos", "-k")
"""The judge of what real workers owe when they are killed; a part of a name follows."""
STREAMING: Final = (
    *("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"),
    *("tests/integration/worker/test_streaming.py", "-k"),
)
"""The judge of what real workers owe whose objects leave in parts; a part of a name follows."""
STATIC: Final = (*SHELL, "tests/contract/test_static_member.py")
"""The judge of static members, on a real broker."""
SECRETS: Final = (
    *("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-o", "timeout=60"),
    *("tests/wire/test_s3_credentials.py", "tests/wire/test_kafka_tls.py", "tests/unit/s3"),
)
"""The judge of keys and certificates that are renewed in place."""
ENCRYPTION: Final = (*SHELL, "tests/wire/test_s3_encryption.py")
"""The judge of objects without the requested encryption."""
WORKER: Final = (
    *("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-o", "timeout=60"),
    *("tests/unit/worker", "tests/unit/monitoring"),
)
"""The judge of a worker's start, health and end."""

EXPRESSIONS: Final = (
    *("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-o", "timeout=120"),
    *("tests/unit/expressions/test_integers.py", "tests/property/test_expressions.py"),
)
"""The judge of the bytes in a line."""


@dataclass(frozen=True)
class Mutant:
    """One rule taken out."""

    name: str
    file: str
    old: str
    new: str
    judge: tuple[str, ...] = SIMULATION


INTEGERS: Final = "stream_app/expressions/integers.py"
PRELUDE: Final = "stream_app/expressions/prelude.js"
PARTITION: Final = "stream_app/core/partition.py"
STREAMTIME: Final = "stream_app/core/stream_time.py"
METADATA: Final = "stream_app/core/metadata_bound.py"
CLOSED: Final = "stream_app/core/closed_windows.py"
WINDOW: Final = "stream_app/core/window.py"
DELIVERY: Final = "stream_app/worker/window_delivery.py"
WATCHDOG: Final = "stream_app/core/progress_watchdog.py"
CONSUMER: Final = "stream_app/kafka/consumer.py"
THREAD: Final = "stream_app/kafka/fetch_thread.py"
ASSIGNMENT: Final = "stream_app/core/assignment.py"
STORAGE: Final = "stream_app/s3/storage.py"
STRAIGHT_PUT: Final = "stream_app/s3/straight_put.py"
STRAIGHT: Final = (*SHELL, "tests/contract/test_straight_put.py")
"""The judge of puts that are made from a template."""
BATCHES: Final = "stream_app/kafka/record_batches.py"
DECODING: Final = (
    *("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-n0"),
    "tests/unit/kafka/test_undecodable.py",
)
"""The judge of batches that cannot be decoded."""
CREDENTIALS: Final = "stream_app/s3/credentials.py"
OBJECT_BODY: Final = "stream_app/core/object_body.py"

POLICY: Final = "stream_app/s3/bucket_policy.py"
POLICIES: Final = (*SHELL, "tests/unit/s3/test_bucket_policy.py")
READERS: Final = (
    *("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-o", "timeout=60"),
    *("tests/unit/core/test_receipt_decoder.py", "tests/unit/inspector/core"),
)
"""The judge of what readers of receipts show."""

TOKENS: Final = "stream_app/kafka/login_tokens.py"
BEARER: Final = "stream_app/kafka/token_login.py"
TOKEN_RULES: Final = (
    *SHELL,
    *("tests/unit/kafka/test_login_tokens.py", "tests/unit/kafka/test_token_login.py"),
    "tests/wire/test_kafka_token_server.py",
)
"""The judge of tokens for logins to Kafka."""
TOKEN_LOGINS: Final = (*SHELL, "tests/integration/kafka/test_token_login.py", "-k")
"""The judge of what a real broker sees of them; a part of a name follows."""

MUTANTS: Final = (
    Mutant(
        "a token is used until its end before another one is requested",
        TOKENS,
        "self.requested_at + RENEWAL_SHARE * self.life_seconds",
        "self.requested_at + self.life_seconds",
        TOKEN_RULES,
    ),
    Mutant(
        "a token is used beyond its end",
        TOKENS,
        "if token is not None and now < token.ends_at else None",
        "if token is not None else None",
        TOKEN_RULES,
    ),
    Mutant(
        "a token server that fails is asked again at once",
        TOKENS,
        "now - self._paused_at >= RETRY_SECONDS",
        "now - self._paused_at >= 0",
        TOKEN_RULES,
    ),
    Mutant(
        "a token that a broker has refused is used until four fifths of its life",
        TOKENS,
        "self._is_refused, self._paused_at = True, now",
        "pass",
        TOKEN_RULES,
    ),
    Mutant(
        "every client requests a token of its own",
        BEARER,
        "        if not self._state.is_due(self._now()):\n            return\n",
        "",
        TOKEN_RULES,
    ),
    Mutant(
        "the secret follows a redirect",
        "stream_app/kafka/token_server.py",
        "allow_redirects=False",
        "allow_redirects=True",
        TOKEN_RULES,
    ),
    Mutant(
        "no connection logs in again within its session",
        BEARER,
        "            self._log_in_after(seconds)\n\n",
        "            pass\n\n",
        (*TOKEN_LOGINS, "outlives"),
    ),
    Mutant(
        "requests are sent while a connection in use logs in",
        BEARER,
        "        if self._login_ended is None:\n",
        "        if True:\n",
        (*TOKEN_LOGINS, "outlives"),
    ),
    Mutant(
        "a refusal by the broker is taken for a login",
        BEARER,
        "if error is NoError and response.sasl_auth_bytes:",
        "if False:",
        (*TOKEN_LOGINS, "refuses"),
    ),
    Mutant(
        "the Inspector counts a window that was given up as delivered",
        "stream_app/inspector/core/index.py",
        "return self.lines if self.is_final else 0",
        "return self.lines",
        READERS,
    ),
    Mutant(
        "the table of receipts counts a window that was given up as delivered",
        "stream_app/core/receipt_decoder.py",
        "return 0 if self.status in UNDELIVERED else self.counts.delivered",
        "return self.counts.delivered",
        READERS,
    ),
    Mutant(
        "a bucket policy names a principal that nobody gave",
        POLICY,
        "    _require_principals(destinations, given)\n",
        "",
        POLICIES,
    ),
    Mutant(
        "a bucket policy allows writes outside of the prefixes",
        POLICY,
        'stem = "" if all_prefixes else ',
        'stem = ""; ',
        POLICIES,
    ),
    Mutant(
        "the rights of options are granted to all",
        POLICY,
        "OPTION_RIGHTS.items() if getattr(destination, name)]",
        "OPTION_RIGHTS.items()]",
        POLICIES,
    ),
    Mutant(
        "the heartbeats of a static member do not name its instance",
        "stream_app/kafka/static_member.py",
        "request = StaticHeartbeat(request, self.instance)",
        "pass",
        STATIC,
    ),
    Mutant(
        "a static member that leads the group without knowing it misses new partitions",
        "stream_app/kafka/static_member.py",
        "if coordinator._group_subscription is None:",
        "if False:",
        STATIC,
    ),
    Mutant(
        "that a position is out of range is believed of a replica that is behind",
        "stream_app/core/assignment.py",
        "if leader_end is not None and position <= leader_end:",
        "if False:",
        UNIT,
    ),
    Mutant(
        "the mark of a commit is not compared with its offset",
        "stream_app/core/commit_metadata.py",
        "return crc32(packed, crc32(str(offset).encode())).to_bytes",
        "return crc32(packed, crc32(str(0).encode())).to_bytes",
        UNIT,
    ),
    Mutant(
        "a window of a new log may have the time of one of the old log",
        PARTITION,
        "return max(int(now), self._began_at) if self._is_after_truncation else int(now)",
        "return int(now)",
        UNIT,
    ),
    Mutant(
        "a clock ahead at the beginning moves the closing times of all workers",
        PARTITION,
        "max(int(now), self._began_at) if self._is_after_truncation else int(now)",
        "max(int(now), self._began_at)",
        UNIT,
    ),
    Mutant(
        "a window that was closed before the log began is taken for one of an earlier log",
        PARTITION,
        "        self._began_at = min(self._began_at, window.closed_at)\n",
        "",
        UNIT,
    ),
    Mutant(
        "a new log begins without regard to the newest name of the old one",
        "stream_app/core/commit_metadata.py",
        "max(int(now), self.newest_closed_at) + 1",
        "int(now)",
        UNIT,
    ),
    Mutant(
        "a truncated log begins again before all is settled",
        PARTITION,
        "        elif self._log_start is not None and self.position == self._first:",
        "        if self._log_start is not None and self.position == self._first:",
    ),
    Mutant(
        "a partition whose log was truncated takes batches",
        PARTITION,
        "        if self._log_start is not None:\n            raise FencedError(",
        "        if self._log_start == -1:\n            raise FencedError(",
        UNIT,
    ),
    Mutant(
        "a log that ends within recorded windows is taken over as it is",
        "stream_app/core/commit_metadata.py",
        "return self.is_truncated or self.end > log_end",
        "return self.is_truncated",
        UNIT,
    ),
    Mutant(
        "the Inspector takes a receipt of an earlier log for one of the new log",
        "stream_app/inspector/core/index.py",
        "return [it for it in entries if it.closed_at == newest]",
        "return entries",
        (*SHELL, "tests/unit/inspector/core"),
    ),
    Mutant(
        "windows of an earlier log hide those of the new log from the Inspector",
        "stream_app/inspector/core/index.py",
        "if entry.closed_at < newer.closed_at:",
        "if entry.closed_at < 0:",
        (*SHELL, "tests/unit/inspector/core"),
    ),
    Mutant(
        "batches from before a rebuild are taken",
        ASSIGNMENT,
        "if fetched.seek < self._seeks.get(tp, 0):",
        "if fetched.seek < 0:",
        UNIT,
    ),
    Mutant(
        "objects before the closing is recorded",
        PARTITION,
        "        if recorded:\n            self._release(window)\n",
        "        self._release(window)\n",
    ),
    Mutant(
        "a confirmed commit releases closings that it does not hold",
        CLOSED,
        " and (it.end, it.is_passed_over) in closings\n",
        "\n",
    ),
    Mutant(
        "a confirmation counts for a partition that was rebuilt since",
        PARTITION,
        "        if commit is not self.attempted:\n            return\n",
        "",
        UNIT,
    ),
    Mutant(
        "work of an older epoch counts",
        "stream_app/core/partition_deliveries.py",
        "        if not task.valid:\n            raise FencedError(",
        "        if task is None:\n            raise FencedError(",
    ),
    Mutant(
        "a read-back of an older epoch counts",
        ASSIGNMENT,
        "if epoch != self.epoch or tp not in self._assigned:",
        "if tp not in self._assigned:",
        UNIT,
    ),
    Mutant(
        "windows are kept although somebody else had the partition",
        PARTITION,
        "        elif not self.acknowledged.is_same(commit):\n            return False\n",
        "",
    ),
    Mutant(
        "a gap between batches is accepted",
        PARTITION,
        "        if offset > self.position:\n",
        "        if offset < 0:\n",
    ),
    Mutant(
        "a batch that cannot be decoded is an exception",
        BATCHES,
        "        except Exception as error:  # noqa: BLE001 - each codec has its own exceptions\n",
        "        except KeyError as error:\n",
        DECODING,
    ),
    Mutant(
        "the header of a batch with a wrong checksum says where it ends",
        BATCHES,
        "            agrees = count == delta + 1 or _sound(content, start) is not None\n",
        "            agrees = count > 0\n",
        DECODING,
    ),
    Mutant(
        "a damaged batch proves where the one before it ends",
        BATCHES,
        "    return base if DefaultRecordBatch(content[start:end]).validate_crc() else None\n",
        "    return base\n",
        DECODING,
    ),
    Mutant(
        "a batch that is not whole is no batch",
        BATCHES,
        "            self.has_next = _yes\n",
        "            self.has_next = bool\n",
        DECODING,
    ),
    Mutant(
        "it is not recorded that a window was passed over",
        PARTITION,
        "        self._append(replace(closing, is_passed_over=True), recorded=False)\n",
        "        self._append(closing, recorded=False)\n",
    ),
    Mutant(
        "a commit from before records that a window was passed over",
        CLOSED,
        "if not it.recorded and (it.end, it.is_passed_over) in closings",
        "if not it.recorded and it.end in {end for end, _ in closings}",
        UNIT,
    ),
    Mutant(
        "a batch is passed over in the window before it",
        PARTITION,
        "        if replayed is None and self.position > self._first and not self.full:\n"
        "            self._close(now)\n",
        "",
    ),
    Mutant(
        "a window that was passed over is collected where it can be decoded",
        PARTITION,
        "(self._replay[0].settled or self._replay[0].is_passed_over)",
        "self._replay[0].settled",
    ),
    Mutant(
        "a recorded window loses the lines of a damaged batch alone",
        PARTITION,
        "        end = batch.end if replayed is None else replayed.end\n",
        "        end = batch.end\n",
    ),
    Mutant(
        "a partition waits for each batch that a producer has compressed wrongly",
        "stream_app/core/undecodable.py",
        "        return clock - self.since >= seconds or (self.batch.is_as_sent and has_waited)\n",
        "        return clock - self.since >= seconds\n",
        UNIT,
    ),
    Mutant(
        "a partition does not wait for another copy of a damaged batch",
        "stream_app/core/undecodable.py",
        "        return clock - self.since >= seconds or (self.batch.is_as_sent and has_waited)\n",
        "        return True\n",
        UNIT,
    ),
    Mutant(
        "a log that was lost and has grown again is taken for the same",
        "stream_app/core/assignment.py",
        "        is_later = NO_EPOCH < known < batch.leader_epoch\n",
        "        is_later = False\n",
        UNIT,
    ),
    Mutant(
        "a commit does not have the leader epoch",
        PARTITION,
        "            leader_epoch=self.leader_epoch,\n",
        "",
        UNIT,
    ),
    Mutant(
        "a batch that was passed over has the leader epoch before it",
        PARTITION,
        "        self.leader_epoch = NO_EPOCH  # No checksum covers that of the batch.\n",
        "",
        UNIT,
    ),
    Mutant(
        "recorded closings are not read back",
        "stream_app/core/commit_metadata.py",
        "            closings,\n            began_at",
        "            (),\n            began_at",
    ),
    Mutant(
        "a settled closing is dropped from the metadata early",
        CLOSED,
        "            if closings or not window.settled:\n",
        "            if not window.settled:\n",
    ),
    Mutant(
        "a replay stands under another closing time",
        PARTITION,
        "closed_at=recorded.closed_at if recorded else None",
        "closed_at=recorded.closed_at + 1 if recorded else None",
    ),
    Mutant(
        "a commit passes the oldest unsettled window",
        CLOSED,
        "next((it.first for it in self._windows if not it.settled), first)",
        "next((it.end for it in self._windows if not it.settled), first)",
    ),
    Mutant(
        "a replayed window takes one batch more",
        PARTITION,
        "            if self._replay and self.position >= self._replay[0].end:\n",
        "            if self._replay and self.position > self._replay[0].end:\n",
    ),
    Mutant(
        "a window takes the first moment of the next minute",
        STREAMTIME,
        "_time(records[index], now) >= self.start + self._length",
        "_time(records[index], now) > self.start + self._length",
        UNIT,
    ),
    Mutant(
        "a window reaches over its minute within a batch",
        STREAMTIME,
        "for it in records[index:] if _time(it, now) >= window_end)",
        "for it in records[index:] if _time(it, now) > window_end)",
        UNIT,
    ),
    Mutant(
        "an idle window closes only beyond the end of the log",
        PARTITION,
        "log_end is not None and self.position >= log_end\n",
        "log_end is not None and self.position > log_end\n",
    ),
    Mutant(
        "an idle window closes before the grace is over",
        STREAMTIME,
        "now >= start + length + self._grace",
        "now >= start + length - self._grace",
        UNIT,
    ),
    Mutant(
        "a bound that was lowered takes recorded closings back",
        METADATA,
        "counts = range(recorded, len(closings) + 1)",
        "counts = range(len(closings) + 1)",
        UNIT,
    ),
    Mutant(
        "what the broker is known to refuse is sent again",
        METADATA,
        "return None if size_of(fitting) >= self._refused else fitting",
        "return fitting",
        UNIT,
    ),
    Mutant(
        "a refused commit lowers no bound",
        METADATA,
        "max(refused // 2, reached, OFFSET_METADATA_BYTES_MIN)",
        "self.bytes_max",
        UNIT,
    ),
    Mutant(
        "a request takes any number of closings",
        ASSIGNMENT,
        "if closings >= REQUEST_CLOSINGS_MAX:",
        "if False:",
        UNIT,
    ),
    Mutant(
        "a commit that is too large counts as a missing right",
        "stream_app/kafka/consumer.py",
        "            raise CommitTooLargeError(str(error)) from error",
        "            raise SetupError(str(error)) from error",
        (
            *("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"),
            "tests/integration/worker/test_metadata_limit.py",
        ),
    ),
    Mutant(
        "old timestamps get a window for each event",
        PARTITION,
        "        self._time.idle(now)\n",
        "",
        UNIT,
    ),
    Mutant(
        "a backlog after a long stop counts as late",
        STREAMTIME,
        "self._is_late = now >= self.start + length + self._grace",
        "self._is_late = True",
        UNIT,
    ),
    Mutant(
        "a late window's object moves the clock's minute back",
        STREAMTIME,
        "self._newest_start = max(self._newest_start, self.start + self._length)",
        "self._newest_start = self.start + self._length",
        UNIT,
    ),
    Mutant(
        "the metadata may grow beyond its bound",
        PARTITION,
        "return size_of(commit) > room",
        "return size_of(commit) > self._metadata.bytes_max",
        UNIT,
    ),
    Mutant(
        "open windows are not closed for memory",
        ASSIGNMENT,
        "if partition.held_open and partition.close_early(now):",
        "if partition.held_open < 0 and partition.close_early(now):",
    ),
    Mutant(
        "a receipt's lists have no bound",
        WINDOW,
        "            if trial.bytes_estimate >= room:\n",
        "            if trial.bytes_estimate < 0:\n",
        UNIT,
    ),
    Mutant(
        "a run of skipped records goes over a delivered one",
        "stream_app/core/receipt.py",
        "        self.matched += count\n        self.run_open = False\n",
        "        self.matched += count\n",
    ),
    Mutant(
        "the key does not depend on where the window begins",
        "stream_app/core/object_key.py",
        "name = [topic, str(partition), str(first_offset), destination]",
        "name = [topic, str(partition), destination]",
    ),
    Mutant(
        "a commit is sent although the partition was revoked",
        "stream_app/kafka/fetch_thread.py",
        "                or not owned()\n",
        "",
        (*INTEGRATION, "-k", "commit"),
    ),
    Mutant(
        "a commit is sent in another generation than the partition's",
        "stream_app/kafka/fetch_thread.py",
        "                or coordinator.generation != generation\n",
        "",
        (*INTEGRATION, "-k", "commit"),
    ),
    Mutant(
        "an object is written over another",
        STORAGE,
        'condition = {"IfNoneMatch": "*"} if destination.conditional_writes else {}\n        if',
        "condition: dict[str, Any] = {}\n        if",
        (*CHAOS, "kill_after_the_put"),
    ),
    Mutant(
        "an upload has no checksum",
        STORAGE,
        "            **{expected.checksum_name: expected.checksum},\n",
        "",
        (*CHAOS, "torn"),
    ),
    Mutant(
        "a template is used that does not repeat its request",
        STRAIGHT_PUT,
        'return template if values == {**sent, "path": urlsplit(url).path} else None',
        "return template",
        STRAIGHT,
    ),
    Mutant(
        "any response to a straight put is a stored object",
        STRAIGHT_PUT,
        "if answer.status == _SUCCESS and not await answer.read():",
        "if await answer.read() is not None:",
        STRAIGHT,
    ),
    Mutant(
        "a straight put has the time and signature of its template",
        STRAIGHT_PUT,
        "            _DATE: at,\n",
        '            _DATE: "20261124T163102Z",\n',
        STRAIGHT,
    ),
    Mutant(
        "recorded closings are not read back by the worker",
        "stream_app/kafka/commits.py",
        "                    commit.offset, commit.metadata, accept_unmarked=accept_unmarked\n",
        '                    commit.offset, "", accept_unmarked=True\n',
        (*CHAOS, "kill_after_the_put"),
    ),
    Mutant(
        "the closing is recorded with another time than that of the first part",
        PARTITION,
        "            self.window.closed_at or closing.closed_at,\n",
        "            closing.closed_at,\n",
    ),
    Mutant(
        "the key has a new time at the closing, though parts have left",
        WINDOW,
        "now if self.closed_at is None else self.closed_at",
        "now",
        UNIT,
    ),
    Mutant(
        "a part counts that was sent under an older assignment",
        PARTITION,
        "        self._check(task)\n        task.delivery.leaving.sent(",
        "        task.delivery.leaving.sent(",
        UNIT,
    ),
    Mutant(
        "a window closes while its lines are compressed",
        PARTITION,
        "        if self.window.busy:\n            return",
        "        if self.window.busy and now < 0:\n            return",
        UNIT,
    ),
    Mutant(
        "uploads of lost partitions are not aborted",
        ASSIGNMENT,
        "        self._abandoned += partition.uploads()\n",
        "",
        UNIT,
    ),
    Mutant(
        "a stuck part is waited for",
        WINDOW,
        "any(body.unsent and not body.is_stuck for body in bodies)",
        "any(body.unsent for body in bodies)",
        UNIT,
    ),
    Mutant(
        "the core does not learn that a part is stuck",
        DELIVERY,
        "            upload.partition.stuck(upload)\n",
        "",
        (*STREAMING, "keep_no_other"),
    ),
    Mutant(
        "an object in parts is written over another",
        STORAGE,
        'condition = {"IfNoneMatch": "*"} if destination.conditional_writes else {}\n        found',
        "condition: dict[str, Any] = {}\n        found",
        (*STREAMING, "zombie_at_the_last"),
    ),
    Mutant(
        "an object that goes with an aborted upload counts as there",
        STORAGE,
        "                found = await self._head_existing(destination, key)\n            except",
        "                pass\n            except",
        (*SHELL, "tests/integration/s3/test_multipart.py", "-k", "abort_removes"),
    ),
    Mutant(
        "a part has no checksum",
        "stream_app/s3/multipart.py",
        "        **{algorithm.argument: digest or await checksum(algorithm, content)},\n",
        "",
        (*STREAMING, "part_that_fails"),
    ),
    Mutant(
        "a filter compares a text with a number as unequal",
        "stream_app/expressions/values.py",
        "            raise UndecidedError  # JavaScript converts it.\n",
        "            return False\n",
        (*SHELL, "tests/unit/expressions/test_parser.py"),
    ),
    Mutant(
        "a filter takes an inherited property for none",
        "stream_app/expressions/nodes.py",
        "            if is_inherited:\n                raise UndecidedError\n",
        "",
        (*SHELL, "tests/unit/expressions/test_parser.py"),
    ),
    Mutant(
        "a missing field sends the bytes of the others through the engine",
        "stream_app/expressions/expression.py",
        "if traced is not None and fast_path.can_slice(self._value):",
        "if traced is not None and not fast_path.can_slice(self._value):",
        EXPRESSIONS,
    ),
    Mutant(
        "half a surrogate pair makes an object unreadable",
        "stream_app/expressions/expression.py",
        'if "\\\\" in text and "\\\\ud" in text:',
        'if "\\\\" not in text:',
        (*EXPRESSIONS, "tests/unit/expressions/test_expression.py"),
    ),
    Mutant(
        "integers that are one number in JavaScript do not clash",
        INTEGERS,
        "            if other != token or number in _INFINITE:\n",
        "            if number in _INFINITE:\n",
        EXPRESSIONS,
    ),
    Mutant(
        "integers in strings count",
        INTEGERS,
        "            if quotes % 2 == 1:  # In a string.\n",
        "            if quotes < 0:\n",
        EXPRESSIONS,
    ),
    Mutant(
        "an object that the expression changed proves the origin of its numbers",
        PRELUDE,
        "  while (isFrozen && open.length > 0) {\n",
        "  while (open.length > 0) {\n",
        EXPRESSIONS,
    ),
    Mutant(
        "the event of clashing integers is not frozen",
        PRELUDE,
        "    freeze(o);\n  }\n  return {errors, owners};\n",
        "  }\n  return {errors, owners};\n",
        EXPRESSIONS,
    ),
    Mutant(
        "a limit hit by chance leaves the event unfrozen",
        "stream_app/expressions/engine.py",
        "    if clashes is not None and compiled.can_freeze:\n",
        "    if clashes is not None and not compiled.can_freeze:\n",
        EXPRESSIONS,
    ),
    Mutant(
        "a name that every object has is missing for the fast path",
        "stream_app/expressions/shape.py",
        "        if key not in INHERITED:\n            return None\n",
        "        return None\n",
        (*SHELL, "tests/unit/expressions/test_parser.py"),
    ),
    Mutant(
        "an event that the engine's condition has changed is delivered as it came",
        "stream_app/expressions/engine.py",
        "                return NOT_FROZEN\n            result = None\n",
        '                return "true"\n            result = None\n',
        (*SHELL, "tests/unit/expressions/test_scanner.py"),
    ),
    Mutant(
        "a condition behind an arrow counts as that of the expression",
        "stream_app/expressions/scanner.py",
        'frozenset(["=>", ",", ";"])',
        'frozenset([",", ";"])',
        (*SHELL, "tests/unit/expressions/test_scanner.py"),
    ),
    Mutant(
        "a method is called on a part without its other members",
        "stream_app/expressions/scanner.py",
        'if keys and (keys[-1] == "length" or _CALL.match(text, match.end())):',
        'if keys and keys[-1] == "length":',
        (*SHELL, "tests/unit/expressions/test_scanner.py"),
    ),
    Mutant(
        "parts of one object have different sizes",
        OBJECT_BODY,
        "size = self._part_bytes or (self._sizes.part_min",
        "size = (self._sizes.part_min",
        UNIT,
    ),
    Mutant(
        "a window grows beyond what the smallest parts hold",
        OBJECT_BODY,
        "return self.part_min * (",
        "return self.part * (",
        UNIT,
    ),
    Mutant(
        "a partition is rebuilt whenever S3 has lost an upload",
        "stream_app/core/lost_uploads.py",
        "        if name in self._lost:\n",
        "        if name in self._lost and gone is None:\n",
    ),
    Mutant(
        "parts that another owner has aborted count as lost",
        DELIVERY,
        "if error.code not in UPLOAD_GONE or not task.valid:",
        "if error.code not in UPLOAD_GONE:",
        (*SHELL, "tests/unit/worker"),
    ),
    Mutant(
        "an error of one window leaves the breaker open",
        DELIVERY,
        "            if concerns_window(error):\n",
        "            if task is None:\n",
        (*SHELL, "tests/unit/worker"),
    ),
    Mutant(
        "a window with an error of its own is tried whenever others are",
        "stream_app/core/attempts.py",
        "self._is_own = concerns_window(error)",
        "self._is_own = False",
        UNIT,
    ),
    Mutant(
        "a receipt describes the bytes that were to be written, not those that exist",
        "stream_app/s3/existing_object.py",
        "checksum=self.sha256 if is_ours else sha256,",
        "checksum=self.sha256,",
    ),
    Mutant(
        "a server that lets two writers through passes the conformance check",
        "stream_app/s3/conformance_verdict.py",
        "sum(race.written > 1 for race in races)",
        "sum(race.written > 4 for race in races)",
        (*SHELL, "tests/unit/s3"),
    ),
    Mutant(
        "the conformance check takes an upload that was sent whole for one that was cut",
        "stream_app/s3/conformance.py",
        "        if self._left == 0:\n",
        "        if self._left < 0:\n",
        (*SHELL, "tests/wire/test_s3_torn_body.py"),
    ),
    Mutant(
        "a missing Content-Length is a difference",
        "stream_app/s3/existing_object.py",
        "if is_same and size in (None, self.size):",
        "if is_same and size == self.size:",
        (*SHELL, "tests/unit/s3"),
    ),
    Mutant(
        "a lost upload does not build the partition anew",
        STORAGE,
        "    if error.code in UPLOAD_GONE:\n",
        "    if error.code in UPLOAD_GONE and key is None:\n",
        (*STREAMING, "behind"),
    ),
    Mutant(
        "a revocation does not suspend a worker without a partition",
        CONSUMER,
        "        self.stop_flow()\n",
        "",
        (*INTEGRATION, "-k", "without_a_partition"),
    ),
    Mutant(
        "the flow is resumed into a rebalance",
        CONSUMER,
        "if not is_over and not self._thread.is_rebalancing:",
        "if not is_over:",
        (*INTEGRATION, "-k", "into_another"),
    ),
    Mutant(
        "the flow is resumed by an assignment that is over",
        CONSUMER,
        "if not is_over and not self._thread.is_rebalancing:",
        "if not self._thread.is_rebalancing:",
        (*INTEGRATION, "-k", "into_another"),
    ),
    Mutant(
        "a partition without a commit is not sought",
        THREAD,
        "consumer._fetcher.request_offset_reset([tp], OffsetResetStrategy.EARLIEST)",
        "pass",
        (*INTEGRATION, "-k", "none_or_0"),
    ),
    Mutant(
        "a doubted commit fences another member's generation",
        THREAD,
        "or sender == self._doubted",
        "or sender[1:] == (self._doubted or ())[1:]",
        (*INTEGRATION, "-k", "doubt_about"),
    ),
    Mutant(
        "an error of the coordinator is not asked for",
        "stream_app/kafka/client_check.py",
        "        coordinator.check_errors()\n",
        "        pass\n",
        (*INTEGRATION, "-k", "coordinator_that_nobody"),
    ),
    Mutant(
        "a background task of Kafka's client may end",
        "stream_app/kafka/client_check.py",
        "if task is not None and task.done():",
        "if task is None:",
        (*INTEGRATION, "-k", "that_has_ended"),
    ),
    Mutant(
        "a revocation waits for receipts",
        "stream_app/worker/faust_app.py",
        "    async def _producer_flush(",
        "    async def _no_producer_flush(",
        (*INTEGRATION, "-k", "wait_for_receipts"),
    ),
    Mutant(
        "a partition that stands still is left to its next record",
        WATCHDOG,
        "if stall.seconds >= STALL_SECONDS:",
        "if stall.seconds >= 1e9 * STALL_SECONDS:",
    ),
    Mutant(
        "a worker ends though Kafka does not answer",
        WATCHDOG,
        "            self._stalls[tp].seeks -= 1\n",
        "            self._stalls[tp].seeks -= 0\n",
        UNIT,
    ),
    Mutant(
        "a partition that seeks do not help is sought for ever",
        WATCHDOG,
        "Remedy.SEEK if stall.seeks < SEEKS_MAX else Remedy.EXIT",
        "Remedy.SEEK",
        UNIT,
    ),
    Mutant(
        "a partition that waits for memory counts as standing still",
        WATCHDOG,
        " if is_open else 0.0",
        "",
        UNIT,
    ),
    Mutant(
        "a worker ends, and the next one, for a batch that the broker cannot read",
        "stream_app/worker/stall_monitor.py",
        "if found.refusal is not None:",
        "if found.refusal is not None and tp in self._refused:",
        (*SHELL, "tests/unit/worker/test_stall_monitor.py"),
    ),
    Mutant(
        "a batch that the broker cannot read is asked for at once, again and again",
        "stream_app/worker/stall_monitor.py",
        "        await self._app.consumer.pause(tp)\n",
        "",
        (*SHELL, "tests/unit/worker/test_stall_monitor.py"),
    ),
    Mutant(
        "what was learned of the broker's limit counts for ever",
        "stream_app/core/metadata_bound.py",
        "self.bytes_max, self._refused = self._set_bytes_max, NOTHING_REFUSED",
        "pass",
        UNIT,
    ),
    Mutant(
        "a batch that hangs is under way for ever",
        WATCHDOG,
        "return self._seconds >= BATCH_SECONDS_MAX",
        "return self._seconds >= 1e9 * BATCH_SECONDS_MAX",
        UNIT,
    ),
    Mutant(
        "a batch that waits for memory counts as one that hangs",
        WATCHDOG,
        "if work.is_held or not work.is_pending",
        "if not work.is_pending",
        UNIT,
    ),
    Mutant(
        "a batch that waits for Kafka counts as one that hangs",
        "stream_app/worker/committer.py",
        "        self.read_backs += 1\n",
        "",
        (*SHELL, "tests/unit/worker/test_stall_monitor.py"),
    ),
    Mutant(
        "a partition whose records are all deleted stands still",
        "stream_app/worker/stall_monitor.py",
        "if start is not None and start > position and not partition.window.busy:",
        "if start is not None and start > position and partition.window.busy:",
        (*SHELL, "tests/unit/worker/test_stall_monitor.py"),
    ),
    Mutant(
        "a receipt is given up while the topic takes none",
        "stream_app/core/publication.py",
        "if is_over and self._published() > self._published_then:",
        "if is_over:",
        UNIT,
    ),
    Mutant(
        "a refused receipt pins the commit for ever",
        "stream_app/core/publication.py",
        "if is_over and self._published() > self._published_then:",
        "if is_over and now < 0:",
        UNIT,
    ),
    Mutant(
        "a failed event that an answer does not list counts as delivered",
        "stream_app/core/receipt.py",
        "if room < 0 and not is_whole:",
        "if room < 0:",
        UNIT,
    ),
    Mutant(
        "a shortened receipt does not say where its lists end",
        "stream_app/core/receipt.py",
        "lists=ShortLists(skipped, failed, offset)",
        "lists=ShortLists(skipped, failed, None)",
        UNIT,
    ),
    Mutant(
        "a receipt is refused for the size of others",
        "stream_app/kafka/receipts_topic.py",
        "        except _TOO_LARGE:\n            # The broker",
        "        except KeyError:\n            # The broker",
        (*TOPICS, "-k", "in_its_batch"),
    ),
    Mutant(
        "events behind an open transaction are no lag",
        "stream_app/kafka/fetch_thread.py",
        "{tp: it.highwater for tp, it in fetched}",
        "{tp: it.lso for tp, it in fetched}",
        (*INTEGRATION, "-k", "log_end"),
    ),
    Mutant(
        "events of no destination are not counted",
        "stream_app/core/router.py",
        "        bisect_left(offsets, end) - bisect_left(offsets, begin) for",
        "        bisect_left(offsets, end) for",
        UNIT,
    ),
    Mutant(
        "the fetch loop spins while the agent is held up",
        CONSUMER,
        "            self._room.clear()\n            with",
        "            with",
        (*SHELL, "tests/contract/test_faust.py", "-k", "held_up"),
    ),
    Mutant(
        "an outage of S3 of a day costs the membership",
        "stream_app/worker/faust_app.py",
        "IDLE_SECONDS_MAX: Final = 100.0 * RETRY_SECONDS_MAX",
        "IDLE_SECONDS_MAX: Final = 86_400.0",
        (*SHELL, "tests/contract/test_faust.py", "-k", "longer_than_a_day"),
    ),
    Mutant(
        "a worker outside of its group is live",
        "stream_app/monitoring/health.py",
        "elif self.outside_since is None:",
        "elif self.outside_since is None and now < 0:",
        (*SHELL, "tests/unit/monitoring"),
    ),
    Mutant(
        "encryption that a server ignores is not noticed",
        "stream_app/s3/encryption.py",
        "    if stated != destination.sse:\n",
        "    if stated is None:\n",
        ENCRYPTION,
    ),
    Mutant(
        "encryption of objects in parts is not looked at",
        "stream_app/s3/multipart.py",
        "            if number == 1:\n",
        "            if number == 0:\n",
        ENCRYPTION,
    ),
    Mutant(
        "refused keys are not read again",
        "stream_app/s3/clients.py",
        "if not await credentials.refused(version):",
        "if version >= 0:",
        SECRETS,
    ),
    Mutant(
        "a file of keys that has changed is not followed",
        CREDENTIALS,
        "                    if await self._has_changed():\n"
        "                        await self._read()\n",
        "",
        SECRETS,
    ),
    Mutant(
        "a file that is half written changes the identity",
        CREDENTIALS,
        "if before is not None and (found is None or found.method != before.method):",
        "if before is None:",
        SECRETS,
    ),
    Mutant(
        "a refusal reads the sources without a bound",
        CREDENTIALS,
        "if is_time or await self._has_changed():",
        "if now >= 0:",
        SECRETS,
    ),
    Mutant(
        "requests that were refused together are repeated by one of them alone",
        CREDENTIALS,
        "                    self._requested_at = now\n"
        "                    await self._read()\n"
        "        return self.version != version\n",
        "                    self._requested_at = now\n"
        "                    await self._read()\n"
        "                    return self.version != version\n"
        "        return False\n",
        SECRETS,
    ),
    Mutant(
        "a role is assumed with a key that STS has refused",
        CREDENTIALS,
        "if code not in NOT_THESE or not await self._own.refused(version):",
        "if code:",
        SECRETS,
    ),
    Mutant(
        "a key that is not known everywhere yet is refused for good",
        "stream_app/s3/errors.py",
        "if age is not None and age < FRESH_SECONDS:",
        "if age is not None and age < 0:",
        SECRETS,
    ),
    Mutant(
        "a change between reading and following the file is not found",
        "stream_app/worker/reload.py",
        "        self._source = source\n",
        "        self._source = source\n        source.load()\n",
        WORKER,
    ),
    Mutant(
        "a crash while stopping ends with status 0",
        "stream_app/worker/faust_app.py",
        "        self.status = 2 if isinstance(reason, InstanceFencedError) else 1\n",
        "        if self._ending is None:\n"
        "            self.status = 2 if isinstance(reason, InstanceFencedError) else 1\n",
        WORKER,
    ),
    Mutant(
        "a member is ready although its coordinator is away",
        "stream_app/monitoring/health.py",
        "if membership.is_member and away > membership.session_seconds:",
        "if membership.is_ending and away > membership.session_seconds:",
        WORKER,
    ),
    Mutant(
        "a member is ready although nothing is known of its partitions",
        "stream_app/monitoring/health.py",
        "elif membership.partitions_unanswered:",
        "elif membership.is_ending and membership.partitions_unanswered:",
        WORKER,
    ),
    Mutant(
        "a leader that never responds is not noticed",
        "stream_app/monitoring/unanswered_partitions.py",
        "silence.responded_at != fetch.responded_at:",
        "silence.responded_at is None or silence.responded_at != fetch.responded_at:",
        WORKER,
    ),
    Mutant(
        "a missing right in Kafka is not found",
        "stream_app/kafka/cluster_findings.py",
        "return bool(operations & 1 << OPERATIONS[operation])",
        "return bool(operations | 1 << OPERATIONS[operation])",
        (*SHELL, "tests/unit/kafka/test_cluster_findings.py"),
    ),
    Mutant(
        "a bootstrap address that responds is taken for a broker that can be reached",
        "stream_app/kafka/connection.py",
        "    if address == at:\n",
        "    if address:\n",
        (*SHELL, "tests/integration/commands/test_kafka_check.py", "-k", "advertised"),
    ),
    Mutant(
        "certificates that have changed are not read again",
        "stream_app/kafka/tls.py",
        "            if versions != self._seen:\n                self._read(versions)\n",
        "",
        SECRETS,
    ),
    Mutant(
        "certificates are read into the context that is in use",
        "stream_app/kafka/tls.py",
        "            self._context = _context(self._kafka)\n        except SetupError as error:",
        "            self._context.load_verify_locations(self._kafka.ssl_ca_file)\n"
        "            self._context.load_cert_chain(\n"
        "                self._kafka.ssl_certificate_file, self._kafka.ssl_key_file\n"
        "            )\n"
        "        except (SetupError, OSError) as error:",
        SECRETS,
    ),
    Mutant(
        "the authorities of S3 are read once",
        "stream_app/s3/clients.py",
        "if failure.code == UNTRUSTED:",
        'if failure.code == "":',
        SECRETS,
    ),
    Mutant(
        "SIGHUP ends a worker that starts",
        "stream_app/__main__.py",
        'if sys.argv[1:2] == ["worker"]:',
        "if not sys.argv:",
        WORKER,
    ),
    Mutant(
        "payloads of a window that was given up count as delivered",
        "stream_app/monitoring/accumulators.py",
        "            self.given_up += tally.delivered\n            return\n",
        "            self.given_up += tally.delivered\n",
        WORKER,
    ),
    Mutant(
        "failed events of delivered windows make no destination fail",
        "stream_app/monitoring/counts.py",
        "        self.failing.add(receipt.destination, receipt.tally)\n",
        "",
        WORKER,
    ),
    Mutant(
        "keys that no destination takes are kept without a bound",
        "stream_app/core/unmatched_keys.py",
        "if kept in self._counts or len(self._counts) < KEYS_MAX:",
        "if kept is None or kept:",
        UNIT,
    ),
)


def main() -> int:
    """Run the mutants that are named, or all; return 1 when one survives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of the names of mutants to be run")
    names = parser.parse_args().names
    chosen = [it for it in MUTANTS if not names or any(name in it.name for name in names)]
    width = max((len(it.name) for it in chosen), default=0)
    print(f"{'mutant':{width}}  {'killed by':44}  seconds", flush=True)
    survivors = 0
    for mutant in chosen:
        started = time.monotonic()
        killer = _judge(mutant)
        survivors += killer is None
        seconds = time.monotonic() - started
        print(f"{mutant.name:{width}}  {killer or 'SURVIVES':44}  {seconds:7.1f}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} killed")
    return 1 if survivors or not chosen else 0


def _judge(mutant: Mutant) -> str | None:
    """Return what noticed the mutant, None when nothing did."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(
            ROOT, tree, ignore=shutil.ignore_patterns(".*", "__pycache__", "node_modules")
        )
        file = tree / mutant.file
        text = file.read_text()
        if text.count(mutant.old) != 1:
            raise SystemExit(
                f"mutant '{mutant.name}': its old text is {text.count(mutant.old)} times in "
                f"{mutant.file}, not once; write it as the code now reads"
            )
        file.write_text(text.replace(mutant.old, mutant.new))
        _demand_own_package(tree)
        result = _python(tree, *mutant.judge)
    if result is None:
        return f"no end within {JUDGE_SECONDS_MAX:.0f} s"
    if result.returncode == 0:
        return None
    # A fixture that fails has noticed it too; a file that cannot be imported has no test to name.
    lines = result.stdout.splitlines()
    failed = [it for it in lines if it.startswith(("FAILED ", "ERROR ")) and "::" in it]
    if not failed:
        raise SystemExit(
            f"mutant '{mutant.name}': the judge did not run: {result.stdout}{result.stderr}"
        )
    return failed[0].split(" ")[1].rpartition("::")[2]


def _demand_own_package(tree: Path) -> None:
    """Make sure that the copy is judged, not the package that is installed."""
    result = _python(tree, "-c", "import stream_app; print(stream_app.__file__)")
    if result is None or not result.stdout.startswith(str(tree)):
        raise SystemExit(f"the copy in {tree} is not what Python imports: {result}")


def _python(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tree,
            capture_output=True,
            text=True,
            timeout=JUDGE_SECONDS_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None


if __name__ == "__main__":
    sys.exit(main())
