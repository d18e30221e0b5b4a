import asyncio

import pytest

from mammadai_jax.listening.server import writer as writers
from mammadai_jax.listening.study import database


@pytest.fixture
def writer(tmp_path):
    made = database.create(tmp_path)
    yield writers.Writer(made)
    made.close()


def test_jobs_are_done_in_order_in_few_transactions_and_fail_alone(writer):
    def insert(number):
        writer.database.insert("about", name=str(number), value="x")
        if number % 10 == 3:
            raise ValueError(f"job {number}")
        return number

    async def all_at_once():
        return await asyncio.gather(
            *(writer.do(lambda n=n: insert(n)) for n in range(200)), return_exceptions=True
        )

    results = asyncio.run(all_at_once())
    failed = [n for n in range(200) if n % 10 == 3]
    assert [str(results[n]) for n in failed] == [f"job {n}" for n in failed]
    assert [r for r in results if isinstance(r, int)] == [n for n in range(200) if n not in failed]
    stored = {row["name"] for row in writer.database.rows("SELECT name FROM about")} - {"format"}
    assert stored == {str(n) for n in range(200) if n not in failed}


def test_a_batch_that_cannot_be_kept_is_told_to_all_of_it(writer, monkeypatch):
    def broken():
        raise OSError("disk full")

    monkeypatch.setattr(writer.database, "transaction", broken)
    with pytest.raises(OSError, match="disk full"):
        asyncio.run(writer.do(lambda: 1))
