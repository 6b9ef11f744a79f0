"""`Sandbox`: several cells, a queue of programs, bounded retries of what the sandbox itself got wrong."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Self

from codellm_dag.sandbox.cell import Cell
from codellm_dag.sandbox.errors import CellLostError, SandboxError, SandboxUnavailableError
from codellm_dag.sandbox.programs import Execution, Limits, Program

_Job = tuple[Program, "Future[Execution]"]


class Sandbox:
    """Runs untrusted programs; a context manager.

    `workers` cells run as many programs at a time (1 to 256). An execution that is an infrastructure error is
    tried again `retries` times in a new cell before it is returned as one. Any thread may call `run`.

    ``__enter__`` raises SandboxUnavailableError where this machine lacks what the sandbox needs: there is no
    weaker mode.
    """

    def __init__(self, workers: int = 2, limits: Limits | None = None, retries: int = 2) -> None:
        if not 1 <= workers <= 256:
            raise ValueError(f"Sandbox workers = {workers!r}: must be from 1 to 256")
        if not 0 <= retries <= 20:
            raise ValueError(f"Sandbox retries = {retries!r}: must be from 0 to 20")
        self.limits = limits or Limits()
        self.workers = workers
        self.retries = retries
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._cells: list[Cell] = []
        self._open = False
        self._closing = threading.Event()

    def __enter__(self) -> Self:
        if self._open:
            raise SandboxError("this Sandbox is already open; make a second one")
        started: list[Future[None]] = [Future() for _ in range(self.workers)]
        for number, ready in enumerate(started):
            name = f"sandbox-cell-{number}"
            thread = threading.Thread(target=self._keep_cell, args=(ready,), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)
        self._open = True
        try:
            for ready in started:
                ready.result()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End all cells at once. Programs that nobody has waited for are stopped, their futures cancelled."""
        self._closing.set()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        self._closing.clear()
        self._open = False

    def submit(self, program: Program) -> Future[Execution]:
        """Queue a program; the future's result is its `Execution`."""
        if not self._open:
            raise SandboxError("the Sandbox is not open; use it in a `with` statement")
        future: Future[Execution] = Future()
        self._jobs.put((program, future))
        return future

    def cell_pids(self) -> list[int]:
        """Process ids, on this machine, of the supervisors of the live cells that can be seen."""
        return sorted(cell.supervisor for cell in self._cells if cell.supervisor is not None)

    def run(self, programs: Sequence[Program]) -> list[Execution]:
        """Run the programs, several at a time; their executions in the same order."""
        futures = [self.submit(program) for program in programs]
        return [future.result() for future in futures]

    def run_one(self, program: Program) -> Execution:
        """Run one program."""
        return self.submit(program).result()

    def _keep_cell(self, ready: Future[None]) -> None:
        """A cell's thread: it starts, uses, replaces and closes the cell."""
        cell: Cell | None = None
        try:
            cell = self._start_cell()
            ready.set_result(None)
        except BaseException as error:
            ready.set_exception(error)
            return
        try:
            while (job := self._jobs.get()) is not None:
                program, future = job
                if self._closing.is_set():
                    future.cancel()
                if not future.set_running_or_notify_cancel():
                    continue
                try:
                    execution, cell = self._run_with_retries(program, cell)
                    future.set_result(execution)
                except BaseException as error:
                    future.set_exception(error)
        finally:
            if cell is not None:
                self._end_cell(cell)

    def _start_cell(self) -> Cell:
        cell = Cell(self._closing)
        self._cells.append(cell)
        return cell

    def _end_cell(self, cell: Cell) -> None:
        self._cells.remove(cell)
        cell.close()

    def _run_with_retries(self, program: Program, cell: Cell | None) -> tuple[Execution, Cell | None]:
        limits = program.limits or self.limits
        execution = Execution("infrastructure_error")
        for attempt in range(1, self.retries + 2):
            try:
                cell = cell or self._start_cell()
                execution = replace(cell.run(program, limits), attempts=attempt)
            except (CellLostError, SandboxUnavailableError, OSError) as error:
                execution = Execution("infrastructure_error", detail=str(error), attempts=attempt)
            if execution.status != "infrastructure_error" or self._closing.is_set():
                break
            if cell is not None:
                self._end_cell(cell)
                cell = None
        return execution, cell
