"""The commands, thin: parse, call, print."""

import os
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from fovsfe import recipe as recipes
from fovsfe.errors import FovsfeError, WrongUsage
from fovsfe.files import read_json, write_json, write_text
from fovsfe.progress import Screen, print_plain
from fovsfe.run import Run
from fovsfe.storage.folders import Expected, downloaded, synced_folder, upload_on_exit
from fovsfe.storage.locations import as_path, is_url
from fovsfe.storage.transfer import upload

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Ford vs Ferrari: from a folder of photos to an honest, stacked classifier.",
)
console = Console()
errors = Console(stderr=True)

RecipeName = Annotated[str, typer.Option("--recipe", help="A ready recipe (see `fovsfe recipes`) or a file.")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="key=value; may be repeated.")]
Weights = Annotated[str, typer.Option(help="Where backbones come from: a folder, hub or none.")]
Out = Annotated[
    str | None, typer.Option("--out", help="The run: a folder or a URL; by default runs/PHOTOS-RECIPE.")
]
Minutes = Annotated[
    float | None, typer.Option(min=0.5, help="The whole command ends within so many minutes.")
]
Devices = Annotated[int, typer.Option(min=1, help="GPUs, or processes where there is no GPU, of a node.")]
Nodes = Annotated[int, typer.Option(min=1, help="Machines; torchrun or srun starts the processes on them.")]
ClusterAddress = Annotated[
    str | None, typer.Option("--cluster", help="A Ray cluster: auto, local, HOST:PORT or ray://HOST:PORT.")
]


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback where something fails.")] = False,
) -> None:
    if debug:
        os.environ["FOVSFE_DEBUG"] = "1"


@app.command()
def train(
    photos: str,
    recipe: RecipeName = "quick",
    out: Out = None,
    changes: Changes = None,
    weights: Weights = "hub",
    minutes: Minutes = None,
    devices: Devices = 1,
    nodes: Nodes = 1,
    cluster: ClusterAddress = None,
) -> None:
    """Trains an ensemble on a folder of photos, here or at a URL.

    Example: `fovsfe train photos --recipe quick --weights weights --minutes 10 --out run`
    """
    from fovsfe import pipeline  # torch takes seconds to load; the other commands need not wait for it
    from fovsfe.context import RunArguments

    place = out or f"runs/{_name(photos)}-{Path(recipe).stem}"
    if cluster and devices > 1:
        raise WrongUsage("--cluster gives each network one GPU, or CPUs: leave out --devices")

    def start(folder: Path, screen: Screen) -> Run:
        settings = recipes.load_recipe(recipe, changes or [])
        kept = weights if weights in ("hub", "none") else str(Path(weights).resolve())
        where = str(as_path(photos))
        command = RunArguments(photos=where, weights=kept, minutes=minutes, devices=devices)
        with _joined(cluster, place) as machines:
            return pipeline.start(command, settings, folder, screen, machines)

    _lead(start, place, "new", devices, nodes)


@app.command()
def resume(run: str, cluster: ClusterAddress = None) -> None:
    """Goes on with a run after a crash or Ctrl-C, losing at most the epoch that was under way.

    Example: `fovsfe resume run`
    """
    from fovsfe import pipeline

    def go_on(folder: Path, screen: Screen) -> Run:
        with _joined(cluster, run) as machines:
            return pipeline.go_on(folder, screen, machines)

    _lead(go_on, run, "existing")


@app.command()
def check(
    photos: str,
    out: Annotated[
        str | None,
        typer.Option("--out", help="Where to write index.html, faults.csv, photos.csv and audit.json."),
    ] = None,
) -> None:
    """Looks at photos without training: what is wrong with them, photo by photo.

    With `--out`, index.html shows every fault with its photos, and faults.csv lists them. Exit code 1 where
    photos cannot be read, labels contradict each other, or labelled photos are in the test part too.

    Example: `fovsfe check photos --out audit`
    """
    from fovsfe.ensemble.predictions import write_csv
    from fovsfe.photos.audit import audit_photos
    from fovsfe.photos.layouts import find_photos
    from fovsfe.report import audit_page

    found = find_photos(as_path(photos))
    with Screen(console).opened() as screen:
        result = audit_photos(found, progress=lambda done, of: screen.bar("looking at photos", done, of))
    parts = Counter(result.table["part"])
    print_plain(
        console,
        f"{photos}: {found.layout}, {parts['train']} labelled photos of {len(found.class_names)} labels,"
        f" {parts['test']} test photos",
    )
    for finding in result.findings:
        print_plain(console, f"{finding.severity}: {finding.kind}: {finding.detail}")
        for photo in finding.ids:
            print_plain(console, f"    {photo}")
    if out is not None:
        findings = [asdict(finding) for finding in result.findings]
        with upload_on_exit(out) as folder:
            write_csv(folder / "photos.csv", result.table)
            write_json(folder / "audit.json", findings)
            write_csv(folder / "faults.csv", audit_page.findings_frame(findings, result.table))
            page = audit_page.render_audit_page(_name(photos), found.root, findings, result.table)
            write_text(folder / "index.html", page)
        print_plain(console, f"to look at: {out.rstrip('/')}/index.html")
    if any(finding.severity == "error" for finding in result.findings):
        raise typer.Exit(1)


@app.command()
def report(run: str) -> None:
    """Writes RUN/report.html: what happened in a run, finished or not, as one file that needs no network.

    Example: `fovsfe report run`
    """
    from fovsfe.report.report import write_report

    with downloaded(run) as folder:
        file = write_report(Run(folder))
        if is_url(run):
            upload(file, as_path(run) / file.name)
    print_plain(console, f"report: {run.rstrip('/')}/{file.name}")


@app.command()
def shard(
    photos: str,
    out: Annotated[str, typer.Option("--out", help="Where the shards go: a folder or a URL.")],
    size: Annotated[int, typer.Option("--photos-a-shard", min=2, help="How many photos a shard has.")] = 1024,
) -> None:
    """Looks at photos and packs them into tars, which `train`, `check` and `predict` take as folders.

    From a bucket, a thousand photos in one piece come many times faster than one by one. Called again after
    Ctrl-C, it goes on where it was.

    Example: `fovsfe shard photos --out s3://bucket/photos`
    """
    from fovsfe.photos.audit import audit_photos
    from fovsfe.photos.layouts import find_photos
    from fovsfe.photos.packing import pack_shards
    from fovsfe.photos.sampler import assign_shards

    found = find_photos(as_path(photos))
    if found.layout == "shards":
        raise WrongUsage(f"{photos} is sharded already")
    place = as_path(out)
    with Screen(console).opened() as screen:
        result = audit_photos(found, progress=lambda done, of: screen.bar("looking at photos", done, of))
        table = result.table
        index = pack_shards(
            found,
            table,
            [asdict(finding) for finding in result.findings],
            assign_shards(list(table["id"]), list(table["part"]), size),
            place,
            lambda done, of: screen.bar("packing shards", done, of),
        )
    size_mb = sum(each.bytes for each in index.shards) / 1e6
    print_plain(console, f"{out}: {len(table)} photos in {len(index.shards)} shards, {size_mb:.0f} MB")


@app.command("recipes")
def show_recipes(name: Annotated[str | None, typer.Argument(help="The recipe to print.")] = None) -> None:
    """Lists the ready recipes, or prints one.

    Example: `fovsfe recipes quick > mine.toml`
    """
    if name is not None:
        print_plain(console, recipes.recipe_text(name).rstrip("\n"))
        return
    for title, text in recipes.builtin_recipes().items():
        print_plain(console, f"{title:8} {text.splitlines()[0].removeprefix('# ')}")


@app.command()
def export(
    run: str,
    out: Annotated[str, typer.Option("--out", help="The bundle: a folder or a URL.")],
    member: Annotated[str | None, typer.Option(help="Of all members only this one.")] = None,
    translations: Annotated[
        Path | None, typer.Option(help='TOML: a table a language, in it "label" = "name".')
    ] = None,
    precision: Annotated[
        Literal["fp32", "fp16", "bf16", "int8"],
        typer.Option(help="Less is smaller; refused where held-out photos show that it costs accuracy."),
    ] = "fp32",
) -> None:
    """Makes a bundle, which can be served, of a finished run, and proves that it answers as the networks do.

    Example: `fovsfe export run --out bundle`
    """
    from fovsfe.bundle import run_export

    with downloaded(run) as folder, upload_on_exit(out) as target, Screen(console).opened():
        names = run_export.read_translations(translations, Run(folder)) if translations else None
        bundle = run_export.export_run(
            Run(folder), target, member=member, translations=names, precision=precision
        )
        size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    networks = sum(len(each.networks) for each in bundle.members)
    print_plain(console, f"bundle {out}: {bundle.blend.name}, networks: {networks}, {size / 1e6:.0f} MB")
    assert bundle.proof is not None
    print_plain(
        console,
        f"proved on {bundle.proof.photos} held-out photos: probabilities differ by at most"
        f" {bundle.proof.greatest_difference:.1e}, the same label for {bundle.proof.agreement:.1%}",
    )
    if check := bundle.precision.check:
        print_plain(
            console,
            f"{bundle.precision.kind}: accuracy {check.before:.4f} -> {check.after:.4f} on {check.photos}"
            f" held-out photos; {check.margin} may be lost",
        )


@app.command()
def predict(
    bundle: str,
    paths: Annotated[
        list[str], typer.Argument(help="Files, folders, shards, URLs, patterns; - for paths on stdin.")
    ],
    out: Annotated[
        str | None,
        typer.Option(
            "--out", help="FILE.csv or .jsonl, with --cluster a folder or URL .csv or .parquet; continued."
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many of the likeliest labels a row has.")] = 1,
    cluster: ClusterAddress = None,
) -> None:
    """Says what is in photos, one row each, as CSV on standard output or into a file.

    Goes on past files that are no photos: names them, and ends with exit code 1. Photos that `--out` has a
    row of already are not asked about again. With `--cluster`, the machines of a Ray cluster share the work.

    Example: `fovsfe predict bundle photos --out answers.csv`
    """
    from fovsfe.bundle import prediction_file
    from fovsfe.bundle.batch import expand_paths, predict_files
    from fovsfe.bundle.predictor import Predictor

    if cluster is not None:
        _predict_together(bundle, paths, out, top, cluster)
        return
    if out is not None and is_url(out):
        raise WrongUsage(f"--out {out}: without --cluster it is a file of this machine")
    with downloaded(bundle) as folder:
        predictor = Predictor(folder)
    bad = 0
    try:
        with (
            prediction_file.open_prediction_file(
                Path(out) if out else None, predictor.bundle.class_names, top
            ) as answers,
            Screen(errors).opened() as screen,
        ):
            wanted = (file for file in expand_paths(paths, sys.stdin) if file not in answers.done)
            count = 0
            if errors.is_terminal and _can_be_counted(paths) and (out or not console.is_terminal):
                count = sum(file not in answers.done for file in expand_paths(paths, []))
            for number, (file, answer) in enumerate(predict_files(predictor, wanted), 1):
                if isinstance(answer, str):
                    bad += 1
                    print_plain(errors, f"{file}: {answer}")
                else:
                    answers.write(file, answer)
                if count:
                    screen.bar("predicting", number, count)
    except KeyboardInterrupt:
        raise FovsfeError(f"stopped{'; the same command goes on where it was' if out else ''}") from None
    if bad:
        raise typer.Exit(1)


def _can_be_counted(paths: list[str]) -> bool:
    """Whether looking for the files twice costs little: not standard input, nor what lies elsewhere."""
    return not any(path == "-" or is_url(path) for path in paths)


def _predict_together(bundle: str, paths: list[str], out: str | None, top: int, address: str) -> None:
    from fovsfe.bundle.batch import expand_paths
    from fovsfe.bundle.format import load_bundle
    from fovsfe.executors.part_files import open_parts
    from fovsfe.executors.ray_cluster import connected
    from fovsfe.executors.ray_prediction import predict_on_cluster

    if out is None:
        raise WrongUsage("--cluster writes a table in parts: add --out NAME.csv or --out NAME.parquet")
    with downloaded(bundle) as folder:
        class_names = load_bundle(folder).class_names
    try:
        with (
            connected(address),
            open_parts(out, class_names, top) as parts,
            Screen(errors).opened() as screen,
        ):
            count = 0
            if errors.is_terminal and _can_be_counted(paths):
                count = sum(not parts.has(file) for file in expand_paths(paths, []))
            tell = partial(print_plain, errors)
            files = expand_paths(paths, sys.stdin)
            for done in predict_on_cluster(
                bundle, files, parts, lambda file, fault: tell(f"{file}: {fault}")
            ):
                if count:
                    screen.bar("predicting", done, count)
    except KeyboardInterrupt:
        raise FovsfeError("stopped; the same command goes on where it was") from None
    if parts.faults:
        raise typer.Exit(1)


@app.command()
def serve(
    bundle: str,
    host: Annotated[str | None, typer.Option(help="The address to listen on; HOST, or 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="PORT, or 42450.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; WORKERS, or 1.")] = None,
) -> None:
    """Serves a bundle to the public: a page at / and an API. Settings come from the environment too.

    Example: `fovsfe serve bundle --port 9000`
    """
    from fovsfe.service import server
    from fovsfe.service.settings import Settings

    settings = Settings.read(os.environ, host=host, port=port, workers=workers)
    address = f"http://localhost:{settings.port}{settings.app_root}/"
    print_plain(errors, f"serving {bundle} at {address} (Ctrl-C ends it)")
    with downloaded(bundle) as folder:
        server.serve(folder, settings)


@app.command()
def healthy(
    port: Annotated[int | None, typer.Option(help="PORT, or 42450.")] = None,
) -> None:
    """Asks the service on this machine whether it is ready; exit code 1 where it is not.

    Example: `fovsfe healthy`
    """
    from fovsfe.service.healthy import ask
    from fovsfe.service.settings import Settings

    settings = Settings.read(os.environ, port=port)
    ask(settings.host, settings.port)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Where photos and run go.")] = Path("demo"),
    serving: Annotated[bool, typer.Option("--serve/--no-serve", help="Serve the page at the end.")] = True,
) -> None:
    """The whole product, offline, in minutes: draws photos of ten car models, trains an ensemble on them, and
    serves it at http://localhost:42450 until Ctrl-C.

    Example: `fovsfe demo`
    """
    from fovsfe import pipeline
    from fovsfe.context import RunArguments
    from fovsfe.synthetic.dataset import draw_dataset

    photos, folder = out / "photos", out / "run"

    def work(folder: Path, screen: Screen) -> Run:
        if not photos.exists():
            draw_dataset(photos, 150, 200, 0, lambda done, of: screen.bar("drawing photos", done, of))
        if Run(folder).arguments.exists():
            return pipeline.go_on(folder, screen)
        command = RunArguments(photos=str(photos.resolve()), weights="none", minutes=4.2, devices=1)
        return pipeline.start(command, recipes.load_recipe("demo"), folder, screen)

    run = _interruptible(work, str(folder))
    if serving:
        serve(str(run.bundle))


def _name(place: str) -> str:
    """What a folder or URL is called."""
    return PurePosixPath(str(as_path(place))).name


def _joined(address: str | None, place: str) -> Any:
    """The cluster for a run at `place` as a context; None where no cluster is asked for."""
    if address is None:
        return nullcontext()
    from fovsfe.executors.ray_executor import ray_executor  # takes Ray, which need not be there

    return ray_executor(address, place)


def _lead(
    work: Callable[[Path, Screen], Run], place: str, expected: Expected, devices: int = 1, nodes: int = 1
) -> None:
    """Does the work of a run at `place` and shows the result; where a launcher started more processes, these
    train along."""
    from fovsfe.training import distributed
    from fovsfe.training.loop import train_network

    with distributed.joined_process_group(devices, nodes) as ours:
        if ours is not None and not ours.leads:
            ours.follow(lambda task: train_network(task, 1, lambda event: None))
            return
        _interruptible(work, place, expected)


def _interruptible(work: Callable[[Path, Screen], Run], place: str, expected: Expected = "either") -> Run:
    """What the work makes of the folder of this machine for a run at `place`, and shows it.

    Ctrl-C says how to go on.
    """
    screen = Screen(console)
    try:
        with synced_folder(place, screen.say, expected) as folder:
            with screen.opened():
                run = work(folder, screen)
            _show_result(run, place)
            return run
    except KeyboardInterrupt:
        raise FovsfeError(f"stopped; go on with: fovsfe resume {place}") from None


def _show_result(run: Run, place: str) -> None:
    metrics = read_json(run.metrics)
    chosen = metrics["chosen"]
    for part in metrics["rounds"]:
        table = Table("", "accuracy", "95 % interval", "log loss", title=f"round {part['round']}")
        for name, figures in (part["members"] | part["blends"]).items():
            of_all = name.count("+") == len(part["members"]) - 1 > 0
            best = part["round"] == chosen["round"] and name == chosen["blend"]
            if not (of_all or best or name in part["members"]):
                continue  # metrics.json has the blends of some members
            low, high = figures["interval"]
            table.add_row(
                f"{name.split('-')[0]} of all" if of_all else name,
                f"{figures['accuracy']:.3f}",
                f"{low:.3f} - {high:.3f}",
                f"{figures['log_loss']:.3f}",
                style="bold" if best else None,
            )
        console.print(table)
    low, high = chosen["interval"]
    lines = [
        f"chosen: {chosen['blend']} of round {chosen['round']}, accuracy {chosen['accuracy']:.3f}"
        f" ({low:.3f} - {high:.3f}) on {metrics['measured_on']} that it had not learned from",
        *(f"  {reason}" for reason in chosen["reasons"]),
    ]
    if chosen["hardest_pair"]:
        first, second, times = chosen["hardest_pair"]
        lines.append(f"hardest pair: {first} and {second}, taken for each other {times} times")
    lines.append(f"run folder: {place}")
    for line in lines:
        print_plain(console, line)


def main() -> None:
    """The program: exit code 0 done, 1 the work failed, 2 wrong usage."""
    try:
        app()
    except FovsfeError as error:
        if os.environ.get("FOVSFE_DEBUG"):
            raise
        print_plain(errors, f"fovsfe: {error}", style="red")
        sys.exit(2 if isinstance(error, WrongUsage) else 1)
    except ModuleNotFoundError as error:
        if os.environ.get("FOVSFE_DEBUG"):
            raise
        extra = "serve" if {"serve", "predict", "healthy"} & set(sys.argv) else "train"
        extra = "cluster" if error.name in ("ray", "pyarrow") else extra
        print_plain(
            errors, f"fovsfe: {error.name} is not installed: pip install 'fovsfe[{extra}]'", style="red"
        )
        sys.exit(1)
    except KeyboardInterrupt:
        errors.print("fovsfe: stopped", highlight=False)
        sys.exit(1)
