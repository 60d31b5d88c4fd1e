"""A DataLoader with torch's protocol: a queue of tasks for each worker, one queue of results, batches in order."""

import multiprocessing
import random
from itertools import count, islice
from typing import NamedTuple


class Dataset:
    pass


class IterableDataset(Dataset):
    pass


class WorkerInfo(NamedTuple):
    id: int
    num_workers: int


_info = None


def get_worker_info():
    return _info


class _End:
    """An iterable dataset of a worker has no more batches."""


def default_collate(batch):
    return [list(column) for column in zip(*batch)] if isinstance(batch[0], tuple) else list(batch)


def _work(dataset, info, batch_size, tasks, results):
    global _info
    _info = info
    iterator = None
    while (task := tasks.get()) is not None:
        number, wanted = task
        try:
            if wanted == "begin":
                iterator, result = iter(dataset), None
            elif iterator is None:
                get = getattr(dataset, "__getitems__", None)
                result = default_collate(get(wanted) if get else [dataset[i] for i in wanted])
            else:
                batch = list(islice(iterator, batch_size))
                result = default_collate(batch) if batch else _End()
        except Exception as e:
            result = e
        results.put((info.id, number, result))


class DataLoader:
    def __init__(
        self,
        dataset,
        batch_size=1,
        shuffle=False,
        sampler=None,
        num_workers=0,
        multiprocessing_context=None,
        timeout=0,
        persistent_workers=False,
        prefetch_factor=2,
    ):
        self.dataset, self.batch_size, self.timeout = dataset, batch_size, timeout or None
        self.workers, self.persistent, self.ahead = num_workers, persistent_workers, prefetch_factor
        self.iterable = isinstance(dataset, IterableDataset)
        self.shuffle, self.sampler = shuffle, sampler
        self.context = multiprocessing.get_context(multiprocessing_context)
        self.running = []

    def _batches(self):
        indices = list(self.sampler) if self.sampler is not None else list(range(len(self.dataset)))
        if self.shuffle:
            random.shuffle(indices)
        return [indices[at : at + self.batch_size] for at in range(0, len(indices), self.batch_size)]

    def _start(self):
        self.results = self.context.Queue()
        for n in range(self.workers):
            tasks = self.context.Queue()
            arguments = (self.dataset, WorkerInfo(n, self.workers), self.batch_size, tasks, self.results)
            process = self.context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            self.running.append((process, tasks))

    def stop(self):
        for process, tasks in self.running:
            tasks.put(None)
        for process, tasks in self.running:
            process.join()
            tasks.close()
            tasks.join_thread()
        self.running = []

    def __iter__(self):
        if self.workers == 0:
            yield from self._here()
            return
        if not self.running:
            self._start()
        try:
            yield from self._from_workers()
        finally:
            if not self.persistent:
                self.stop()

    def _here(self):
        if not self.iterable:
            for batch in self._batches():
                yield default_collate(self.dataset.__getitems__(batch))
            return
        iterator = iter(self.dataset)
        while batch := list(islice(iterator, self.batch_size)):
            yield default_collate(batch)

    def _get(self):
        worker, number, result = self.results.get(timeout=self.timeout)
        if isinstance(result, Exception):
            raise result
        return worker, number, result

    def _from_workers(self):
        if self.iterable:
            for _, tasks in self.running:
                tasks.put((-1, "begin"))
            for _ in self.running:
                self._get()
        live = set(range(self.workers))
        wanted = iter(self._batches()) if not self.iterable else iter(lambda: "next", None)
        workers = (n % self.workers for n in count())
        at, given, found = [], 0, {}
        for batch in wanted:
            while live and len(at) - given >= self.workers * self.ahead:
                yield from self._next(given, found, live, at)
                given += 1
            if not live:
                break
            worker = next(n for n in workers if n in live)
            self.running[worker][1].put((len(at), batch))
            at.append(worker)
        while given < len(at):
            yield from self._next(given, found, live, at)
            given += 1

    def _next(self, given, found, live, at):
        while given not in found:
            _, number, result = self._get()
            found[number] = result
        result = found.pop(given)
        if isinstance(result, _End):
            live.discard(at[given])
        else:
            yield result
