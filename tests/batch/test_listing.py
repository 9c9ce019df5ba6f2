"""Which images: folders by class, lists and tables, each mistake with its line."""

from pathlib import Path

import pytest

from attnviz.errors import DataError, ImageError
from attnviz.media.image_listing import Item, list_images
from attnviz.media.remote_files import Folder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (
        "cat/b.jpg",
        "cat/a.JPG",
        "dog/deep/c.png",
        "top.webp",
        "dog/notes.txt",
        ".hidden/d.jpg",
        "cat/._e.jpg",
    ):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "tree"


def names(listing, root: Path) -> list[tuple[str, str | None]]:
    return [(str(Path(item.path).relative_to(root)), item.label) for item in listing.items]


def table(tmp_path: Path, text: str) -> str:
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "list.csv").write_text(text, encoding="utf-8")
    return str(tmp_path / "list.csv")


def test_a_tree_gives_its_images_in_one_order_with_the_class_above_them(tree) -> None:
    listing = list_images([str(tree)])
    assert names(listing, tree) == [
        ("cat/a.JPG", "cat"),
        ("cat/b.jpg", "cat"),
        ("dog/deep/c.png", "dog"),
        ("top.webp", None),
    ]
    assert [item.number for item in listing.items] == [0, 1, 2, 3]


def test_links_in_a_circle_end(tree) -> None:
    (tree / "cat" / "again").symlink_to(tree)
    assert len(list_images([str(tree)]).items) == 4


def test_a_limit_is_spread_over_the_classes_and_reported(tree) -> None:
    listing = list_images([str(tree)], limit=2)
    assert names(listing, tree) == [("cat/b.jpg", "cat"), ("top.webp", None)]
    assert listing.notes == ("2 of 4 images are used, evenly spread over the listing.",)


def test_a_list_has_one_path_on_each_line_relative_to_itself(tmp_path) -> None:
    (tmp_path / "a b.jpg").write_bytes(b"x")
    (tmp_path / "list.txt").write_bytes("\ufeffa b.jpg\r\n\n# hash.jpg\n/gone/ü.jpg\na b.jpg\n".encode())
    listing = list_images([str(tmp_path / "list.txt")])
    assert [item.path for item in listing.items] == [f"{tmp_path}/a b.jpg", f"{tmp_path}/# hash.jpg", "/gone/ü.jpg"]
    assert listing.notes == ("1 path was given more than once; each is used once.",)


def test_a_table_has_labels_boxes_and_masks_and_joins_the_lines_of_one_image(tmp_path) -> None:
    given = table(
        tmp_path,
        "path,label,x0,y0,x1,y1,boxes,mask,size\n"
        "a.jpg,cat,1,2,3.6,4,,,9\n"
        '"new\nline, ""quoted"".jpg", dog ,,,,,"0 0 5 5; 1,1,2,2",m.png,9\n'
        "a.jpg,,10,10,20,20,,,9\n",
    )
    listing = list_images([given])
    assert listing.items == (
        Item(0, f"{tmp_path}/a.jpg", "cat", ((1, 2, 4, 4), (10, 10, 20, 20))),
        Item(1, f'{tmp_path}/new\nline, "quoted".jpg', "dog", ((0, 0, 5, 5), (1, 1, 2, 2)), f"{tmp_path}/m.png"),
    )
    assert listing.notes == (f"Columns of {given} that are not used: size.",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: wanted a column named path, got nothing"),
        ("file,label\na.jpg,cat\n", "line 1: wanted a column named path, got file, label"),
        ("path,x0,y0\na.jpg,1,2\n", "line 1: a box has the columns x0, y0, x1, y1, got only x0, y0"),
        ("path,label,path\na.jpg,b,c\n", "line 1: the column path appears twice"),
        ("path,label\n", "names no image, only a header"),
        ("path,label\na.jpg,cat\na.jpg,cat,9\n", "line 3: has more cells"),
        ("path,label\na.jpg\n", "line 2: has no cell for label"),
        ("path,label\n,cat\n", "line 2: the path is empty"),
        ("path,x0,y0,x1,y1\na.jpg,1,2,,4\n", "line 2: a box is four numbers, got 1 2 (empty) 4"),
        ("path,boxes\na.jpg,1 2 3\n", "line 2: a box is four numbers, got 1 2 3"),
        ("path,boxes\na.jpg,1 2 nan 4\n", "line 2: a box is four numbers, got 1 2 nan 4"),
        ("path,boxes\na.jpg,5 5 5 9\n", "line 2: a box is left, top, right, bottom; 5 5 5 9 is empty"),
        ("path,label\na.jpg,cat\n\na.jpg,dog\n", "line 4: the label of"),
        ('path,label\n"a.jpg"x,cat\n', "line 2"),
        ("path\ngone.jpg\n", "none of its 1 files exists"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_table_is_an_error_with_its_line(tmp_path, text: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        list_images([table(tmp_path, text)])
    assert message in str(caught.value)


def test_a_missing_or_empty_source_is_an_error(tmp_path) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "nothing").mkdir()
    for given, message in (
        ("gone", "gone: no such file or folder"),
        (str(tmp_path / "nothing"), "no image in this folder"),
        (str(tmp_path / "empty.txt"), "names no image"),
    ):
        with pytest.raises((DataError, ImageError), match=message):
            list_images([given])


def test_one_path_with_two_labels_is_a_mistake(tree, tmp_path) -> None:
    (tmp_path / "more.csv").write_text(f"path,label\n{tree}/cat/a.JPG,tiger\n")
    with pytest.raises(DataError, match="two labels, 'cat' and 'tiger'"):
        list_images([str(tree), str(tmp_path / "more.csv")])


def test_a_url_is_listed_as_a_folder_is(tree) -> None:
    store = Folder("memory://listing/photos")
    for name in ("cat/b.jpg", "cat/a.jpg", "notes.txt"):
        store.write(name, b"x")
    listing = list_images([store.root])
    assert [(item.path, item.label) for item in listing.items] == [
        ("memory://listing/photos/cat/a.jpg", "cat"),
        ("memory://listing/photos/cat/b.jpg", "cat"),
    ]
    assert names(list_images([f"file://{tree}"]), Path(f"file:{tree}"))  # the same tree by its URL
    with pytest.raises(ImageError, match="no image in this folder"):
        list_images(["memory://listing/none"])


def test_the_digest_depends_on_labels_boxes_and_order(tmp_path, tree) -> None:
    seen = {list_images([str(tree)]).digest, list_images([str(tree)], limit=3).digest}
    for text in ("path\na.jpg\n", "path,label\na.jpg,b\n", "path,boxes\na.jpg,0 0 1 1\n"):
        seen.add(list_images([table(tmp_path, text)]).digest)
    assert len(seen) == 5
    assert list_images([str(tree)]).digest in seen
