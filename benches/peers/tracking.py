"""Points a second that trackers store, beside xp's in the same run.

    python -m venv venv && venv/bin/pip install -r benches/peers/requirements-tracking.txt
    venv/bin/python benches/peers/tracking.py [--seconds 10] [--without-xp]

Each tracker gets the same stream, four series of a value a step, through the
fastest of its documented ways to log, until so many seconds have passed; then
it is closed, so that what waits in its queues is written. The time is that of
both, without imports and without making the run. What each promises of a
value that was logged is not the same: MLflow's and xp's calls return when it
is in the database or file, TensorBoard's and Trackio's when it is in a queue
of the process, which a kill loses.
"""

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOLD = "measured: "
SERIES = ["train.loss", "train.accuracy", "valid.loss", "valid.accuracy"]


def value(step):
    return 1.0 / (1.0 + step % 1000)


def mlflow_client(uri):
    import mlflow
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient()
    run = client.create_run(client.create_experiment("fashion")).info.run_id

    def log(first, n_steps):
        now = int(time.time() * 1000)
        metrics = [mlflow.entities.Metric(name, value(step), now, step)
                   for step in range(first, first + n_steps) for name in SERIES]
        client.log_batch(run, metrics=metrics)

    def count():
        return sum(len(client.get_metric_history(run, name)) for name in SERIES)
    return log, lambda: client.set_terminated(run), count


def mlflow_sqlite(folder):
    return mlflow_client(f"sqlite:///{folder}/mlflow.db")


def mlflow_files(folder):
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    return mlflow_client(f"file://{folder}/mlruns")


def trackio_local(folder):
    os.environ["TRACKIO_DIR"] = folder
    import trackio
    run = trackio.init(project="fashion", name="bench", embed=False)

    def log(first, n_steps):
        for step in range(first, first + n_steps):
            run.log({name: value(step) for name in SERIES}, step=step)

    def count():
        import sqlite3
        path = next(Path(folder).glob("**/fashion.db"))
        rows = sqlite3.connect(path).execute("SELECT metrics FROM metrics").fetchall()
        return sum(sum(name in SERIES for name in json.loads(row[0])) for row in rows)
    return log, run.finish, count


def events_in(folder):
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    files = Path(folder).glob("**/*tfevents*")
    return sum(len(event.summary.value) for path in files for event in EventFileLoader(str(path)).Load())


def tensorboard_writer(writer, folder):
    def log(first, n_steps):
        for step in range(first, first + n_steps):
            for name in SERIES:
                writer.add_scalar(name, value(step), step)
    return log, writer.close, lambda: events_in(folder)


def tensorboard_torch(folder):
    from torch.utils.tensorboard import SummaryWriter
    return tensorboard_writer(SummaryWriter(folder), folder)


def tensorboard_x(folder):
    from tensorboardX import SummaryWriter
    return tensorboard_writer(SummaryWriter(folder), folder)


# Name, package, how it is opened, steps a call: MLflow takes at most 1,000 values a call.
PEERS = [("MLflow, SQLite", "mlflow", mlflow_sqlite, 250),
         ("MLflow, files", "mlflow", mlflow_files, 250),
         ("Trackio", "trackio", trackio_local, 250),
         ("TensorBoard, PyTorch's writer", "tensorboard", tensorboard_torch, 250),
         ("TensorBoard, tensorboardX", "tensorboardX", tensorboard_x, 250)]


def measure(opened, steps_a_call, seconds):
    """Points, how many of them are there afterwards, and seconds."""
    # Beside the target folder: a temporary folder may lie in memory.
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        log, close, count = opened(folder)
        step = 0
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            log(step, steps_a_call)
            step += steps_a_call
        close()
        spent = time.perf_counter() - began
        return step * len(SERIES), count(), spent


def peer(index, seconds):
    """One peer in a process of its own, so that none pays for another's threads."""
    command = [sys.executable, __file__, "--peer", str(index), "--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True)
    # Trackers print lines of their own, some of them at exit.
    told = [line.removeprefix(TOLD) for line in done.stdout.splitlines() if line.startswith(TOLD)]
    return json.loads(told[0]) if told else done.stderr.strip().splitlines()[-1]


def xp():
    command = ["cargo", "bench", "--quiet", "--bench", "tracking", "--", "points"]
    return json.loads(subprocess.check_output(command, cwd=ROOT))["points"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--peer", type=int)
    parser.add_argument("--without-xp", action="store_true")
    args = parser.parse_args()
    if args.peer is not None:
        _, _, opened, steps_a_call = PEERS[args.peer]
        print(TOLD + json.dumps(measure(opened, steps_a_call, args.seconds)))
        return
    if not args.without_xp:
        for durability, measured in xp().items():
            print(f"xp, synchronous {durability}: {measured['steps']['points_per_s']:,.0f} points/s")
    for index, (name, package, _, _) in enumerate(PEERS):
        told = peer(index, args.seconds)
        version = importlib.metadata.version(package)
        if isinstance(told, str):
            print(f"{name} {version}: {told}")
            continue
        logged, found, spent = told
        lost = "" if found == logged else f", but {found:,} are there"
        print(f"{name} {version}: {logged / spent:,.0f} points/s, {logged:,} in {spent:.1f} s{lost}")


if __name__ == "__main__":
    main()
