import dataclasses
import io
import shlex
from pathlib import Path

import catalogues
import pytest
from rich.console import Console

from bsexp import command, config, conversion, door

EXPERIMENT = "experiments/sharp_minima.py"
PLACE = ("--coordinator=node1:1234", "--processes=2", "--process=1")


def errors(*words):
    with pytest.raises(door.ConfigError) as caught:
        command.parse(words)
    return list(caught.value.errors)


def test_flags_overrides_and_the_argument_are_read():
    found = command.parse(
        [
            f"--config={EXPERIMENT}:smoke",
            "--config.batch.size=8",
            "--workdir",
            "there",
            "--dry_run",
        ]
    )
    assert found == command.Command(
        experiment=Path(EXPERIMENT),
        argument="smoke",
        overrides=(("batch.size", "8"),),
        workdir=Path("there"),
        place=None,
        dry_run=True,
        print_config=False,
        help=False,
    )


def test_the_place_of_a_process_among_several_is_read():
    found = command.parse([f"--config={EXPERIMENT}", *PLACE])
    assert found.place == ("node1:1234", 2, 1)


def test_a_value_may_follow_as_a_word_of_its_own_even_a_negative_one():
    found = command.parse(["--config", EXPERIMENT, "--config.batch.size", "-3"])
    assert found.overrides == (("batch.size", "-3"),)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--config: missing; which experiment? valid: experiments/"),
        ([f"--config={EXPERIMENT}", "fast"], "fast: stray word"),
        ([f"--config={EXPERIMENT}", "-v"], "-v: stray word"),
        (
            [f"--config={EXPERIMENT}", "--workdri=x"],
            "--workdri=x: unknown flag; did you mean workdir?",
        ),
        (
            [f"--config={EXPERIMENT}", "--dry-run"],
            "--dry-run: unknown flag; did you mean dry_run?",
        ),
        ([f"--config={EXPERIMENT}", "--dry_run=3"], "--dry_run=3: takes no value"),
        ([f"--config={EXPERIMENT}", "--workdir"], "--workdir: needs a value"),
        (["--config="], "--config: needs a value"),
        (["--process=1"], "--coordinator: missing beside --process"),
        ([*PLACE[:2], "--process=2"], "--process=2: must be from 0 to 1"),
        ([*PLACE[:2], "--process=-1"], "--process=-1: must be a whole number"),
        (
            ["--coordinator=node1", *PLACE[1:]],
            "--coordinator=node1: must be HOST:PORT",
        ),
        (
            [f"--config={EXPERIMENT}", "--config.batch.size="],
            "--config.batch.size: needs a value",
        ),
    ],
)
def test_words_that_make_no_sense_are_named(words, message):
    assert any(line.startswith(message) for line in errors(*words)), errors(*words)


def test_all_bad_words_come_at_once():
    assert (
        len(errors("fast", "--nonsense", "--workdir")) == 4
    )  # --config is missing too


def test_the_experiment_is_run_with_its_argument():
    settings = command.load_settings(Path(EXPERIMENT), "smoke")
    assert settings["seeds"] == 1
    assert settings["groups"] == {"SB": {}, "LB": {"batch": {"size": "10%"}}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (
            "def get_config(arg):\n    raise ValueError('unknown argument')\n",
            "ValueError: unknown argument",
        ),
        ("def (", "SyntaxError"),
        ("x = 1\n", "no attribute 'get_config'"),
        (
            "def get_config(arg):\n    return {}\n",
            "must return an ml_collections.ConfigDict",
        ),
    ],
)
def test_a_broken_experiment_is_told_with_its_name(tmp_path, content, message):
    file = tmp_path / "mine.py"
    if content is not None:
        file.write_text(content)
    with pytest.raises(door.ConfigError) as caught:
        command.load_settings(file, "")
    assert str(caught.value).startswith(f"--config={file}: ")
    assert message in str(caught.value)


def test_results_go_to_a_folder_named_after_the_experiment_and_its_argument():
    assert command.default_workdir(Path("experiments/sharp_minima.py"), "") == Path(
        "results/sharp_minima"
    )
    assert command.default_workdir(Path("mine.py"), "a/b:c") == Path(
        "results/mine-a-b-c"
    )


def test_the_help_page_lists_every_field_with_meaning_and_default():
    page = command.help_text()
    for path, field in conversion.valid_fields(config.Study):
        assert f"--{path}=" in page
        assert field.metadata["meaning"].split()[0] in page
    assert "--config.batch.size=256" in page
    assert "[examples]" in page


def test_a_printed_configuration_can_be_typed_back():
    catalogue = dataclasses.replace(
        catalogues.PLAIN, optimizers={"adam": {"b1": 0.9, "eps": 1e-8}}
    )
    settings = {
        "question": 'it\'s "a" $HOME \\ question',
        "seeds": 7,
        "batch": {"size": "10%"},
        "optimizer": {"arguments": {"eps": 1e-6}},
        "groups": {
            "it's": {"train": {"epochs": 2}, "optimizer": {"arguments": {"b1": 0.8}}}
        },
    }
    plan = door.open_study(settings, [], catalogue)
    printed = io.StringIO()
    command.print_config(plan, Console(file=printed))
    words = shlex.split(printed.getvalue())
    typed = command.parse(["--config=mine.py", *words])
    assert door.open_study({}, typed.overrides, catalogue) == plan
