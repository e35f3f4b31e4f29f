"""Keys and certificates that are renewed while a worker runs: nobody restarts it."""

import asyncio
import json
import signal
from pathlib import Path

from stream_app.embedded.servers import S3_CONFIG, KafkaServer, S3Server
from tests.chaos.harness import Lab, in_a_loop


class RotatingS3(S3Server):
    """S3 server with a second key, which `rotate` replaces by another one."""

    worker_key = "AKIAOLD"

    def _prepare(self) -> None:
        super()._prepare()
        path = self.folder / S3_CONFIG
        config = json.loads(path.read_text("utf-8"))
        (own,) = config["identities"]
        keys = [{"accessKey": self.worker_key, "secretKey": f"of-{self.worker_key}"}]
        config["identities"].append(own | {"name": "worker", "credentials": keys})
        path.write_text(json.dumps(config), "utf-8")

    def rotate(self, key: str) -> None:
        """Forget the worker's key; know this one instead."""
        self.stop()
        self.worker_key = key
        self.start()

    def write_key(self, path: Path) -> None:
        """Write the worker's key as AWS tools expect it."""
        path.write_text(
            f"[default]\naws_access_key_id = {self.worker_key}\n"
            f"aws_secret_access_key = of-{self.worker_key}\n",
            "utf-8",
        )


@in_a_loop
async def test_keys_in_the_credentials_file_are_exchanged_without_a_restart_or_a_lost_event(
    kafka: KafkaServer, tmp_path: Path
) -> None:
    with RotatingS3(tmp_path / "s3") as s3:
        async with Lab(kafka.address, s3, tmp_path, partitions=1) as lab:
            file = tmp_path / "credentials"
            s3.write_key(file)
            environment = {
                "AWS_ACCESS_KEY_ID": "",
                "AWS_SECRET_ACCESS_KEY": "",
                "AWS_SHARED_CREDENTIALS_FILE": str(file),
            }
            worker = lab.launch_worker(environment=environment)
            await worker.logged("ready: ")
            await lab.load.send(10)
            await lab.settled()
            # S3 forgets the key first, and the file follows.
            await asyncio.to_thread(s3.rotate, "AKIANEW")
            await lab.load.send(10)
            await worker.logged(
                f"refuses the credentials from shared-credentials-file {file}: InvalidAccessKeyId"
            )
            s3.write_key(file)
            await worker.logged(f"new credentials for S3 read from shared-credentials-file {file}")
            await lab.settled()
            # The file changes first, and SIGHUP names the moment; S3 follows.
            s3.worker_key = "AKIALAST"
            s3.write_key(file)
            worker.process.send_signal(signal.SIGHUP)
            await asyncio.to_thread(s3.rotate, "AKIALAST")
            await lab.load.send(10)
            await lab.settled()
            await lab.verify()
            assert worker.running
            assert worker.log.count("new credentials for S3 read from") == 2
