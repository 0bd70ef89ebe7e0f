"""JSON lines and text files as people hand them in: odd line ends, byte order marks, what is no text."""

import json

import pytest

from duologue.core.errors import ConfigError
from duologue.core.files import json_line, read_json, read_lines, read_object, read_records, write_lines

ODD = "a\u2028b\u2029c\u0085d\x1ce"
MARK = "\ufeff"


def test_characters_that_break_a_line_elsewhere_do_not_break_a_json_line(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps({"t": ODD, "n": n}, ensure_ascii=False) + "\n" for n in (1, 2)), "utf-8")
    found = read_records(path, "the data")
    assert found == [(f"{path} line {n}", {"t": ODD, "n": n}) for n in (1, 2)]


def test_what_is_written_reads_back_and_is_one_line_for_every_reader(tmp_path):
    path = tmp_path / "new" / "x.jsonl"
    write_lines(path, [{"t": ODD}, {"t": "é"}])
    assert [record for _, record in read_records(path, "the data")] == [{"t": ODD}, {"t": "é"}]
    assert len(path.read_text("utf-8").splitlines()) == 2


def test_half_of_a_surrogate_pair_is_replaced_where_it_is_written():
    assert json.loads(json_line({"t": "x\ud83dy \U0001f600"})) == {"t": "x\ufffdy \U0001f600"}
    json_line({"t": "\udc00"}).encode()


@pytest.mark.parametrize("content", ['{"a": 1}\n', '[{"a": 1}]', '\n\n{"a": 1}'])
def test_a_byte_order_mark_is_skipped(tmp_path, content):
    path = tmp_path / "x.jsonl"
    path.write_text(MARK + content, "utf-8")
    assert [record for _, record in read_records(path, "the data")] == [{"a": 1}]
    path.write_text(MARK + "Hello?\n", "utf-8")
    assert read_lines(path, "the prompts") == [(f"{path} line 1", "Hello?")]


def test_windows_line_ends_are_no_part_of_a_line(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes(b"one\r\n\r\ntwo\r\n")
    assert [line for _, line in read_lines(path, "the prompts")] == ["one", "two"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"a": "b"}\n{"a": "caf\xe9"}\n', "x.jsonl line 2 is no UTF-8"),
        (b'[{"a": "b"},\n{"a": "caf\xe9"}]\n', "x.jsonl is no UTF-8 in line 2"),
        (b'{"a": "b"}\n{"a": "\\ud83d"}\n', r"x.jsonl line 2 holds \\ud83d, half of a surrogate pair"),
        (b'[{"a": "b"}, {"a": "\\uDC00"}]\n', r"x.jsonl holds \\udc00, half of a surrogate pair"),
        (b'{"a": ' + b"[" * 100_000, "x.jsonl line 1 is no JSON"),
        (b"\n\n", "the data .*x.jsonl holds nothing"),
        (b"[1]", "must hold JSON objects"),
        (b'{"a": 1}\n[1]', "line 2 must hold a JSON object, not list"),
    ],
)
def test_what_is_no_text_or_no_record_is_named_with_its_place(tmp_path, content, said):
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        read_records(path, "the data")


def test_a_whole_pair_is_a_character():
    assert read_object('{"a": "\\ud83d\\ude00"}', "here") == {"a": "\U0001f600"}


def test_a_file_that_is_not_there_is_named(tmp_path):
    for read in (lambda path: read_records(path, "the data"), lambda path: read_json(path, list)):
        with pytest.raises(ConfigError, match=r"none\.json cannot be read: No such file"):
            read(tmp_path / "none.json")
