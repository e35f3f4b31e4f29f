"""A worker that loses what it fetches: `python -P losing_worker.py LOSES worker ...`.

While the file LOSES is there, batches that Kafka's client hands on are dropped, as a queue that is
cleared drops them: the client's position is beyond them, and no error is raised.
"""

import os
import sys
from typing import Any

from stream_app.kafka.consumer import RecordBatchConsumer

if __name__ == "__main__":
    loses = sys.argv.pop(1)
    fetch = RecordBatchConsumer._wait_next_records

    async def losing(consumer: RecordBatchConsumer, timeout: float) -> Any:  # noqa: ASYNC109
        fetched, active = await fetch(consumer, timeout)
        return ({} if fetched and os.path.exists(loses) else fetched), active  # noqa: ASYNC240, PTH110

    RecordBatchConsumer._wait_next_records = losing  # type: ignore[method-assign] # see above

    from stream_app.cli.main import main

    main()
