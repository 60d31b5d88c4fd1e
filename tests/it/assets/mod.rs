//! Typed objects: the bytes are those that wandb writes, what wandb writes is read, and the commands print it.

mod images;

use crate::support::{TestStore, text};
use cairn::assets::{Classes, Html, Image, Json, Object, Table, Value};
use cairn::{Artifact, Store, Version};
use std::collections::BTreeMap;

/// A PNG of 3 × 2 pixels.
const PNG: [u8; 69] = [
    137, 80, 78, 71, 13, 10, 26, 10, 0, 0, 0, 13, 73, 72, 68, 82, 0, 0, 0, 3, 0, 0, 0, 2, 8, 2, 0, 0, 0, 18, 22, 241,
    77, 0, 0, 0, 12, 73, 68, 65, 84, 120, 156, 99, 248, 207, 128, 1, 0, 19, 1, 1, 0, 22, 176, 99, 172, 0, 0, 0, 0, 73,
    69, 78, 68, 174, 66, 96, 130,
];

/// The files that wandb 0.31 writes, by object; see `written_by_wandb.py`.
fn written_by_wandb() -> BTreeMap<String, Vec<(String, String)>> {
    let items: Vec<(String, String, String)> = serde_json::from_str(include_str!("written_by_wandb.json")).unwrap();
    let mut by_object: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (object, path, text) in items {
        by_object.entry(object).or_default().push((path, text));
    }
    by_object
}

/// A version of `artifact` with one object.
fn version_with(store: &Store, artifact: &str, name: &str, object: &Object) -> Version {
    let mut artifact = Artifact::new(artifact, None).unwrap();
    artifact.add(name, object).unwrap();
    artifact.save(store).unwrap().version
}

fn read(version: &Version, path: &str) -> String {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut version.open(path).unwrap(), &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn table<const N: usize>(columns: [&str; N], rows: Vec<[Value; N]>) -> Object {
    let mut table = Table::new(columns);
    for row in rows {
        table.add_row(row).unwrap();
    }
    Object::Table(table)
}

fn map<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Map(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn image() -> Image {
    Image::from_bytes("a.png", PNG).unwrap()
}

/// The objects of `written_by_wandb.py` that cairn makes too.
fn objects() -> Vec<(&'static str, Object)> {
    let null = || Value::Null;
    let cat = || Classes::new([(0, "cat")]);
    let mut mixed = Table::mixed(["m"]);
    for value in [1.into(), "a".into(), true.into()] {
        mixed.add_row([value]).unwrap();
    }
    let empty_list = || Value::List(Vec::new());
    vec![
        (
            "pred",
            table(
                ["id", "x", "s", "b", "n"],
                vec![
                    [1.into(), 1.5.into(), "a".into(), true.into(), null()],
                    [2.into(), f64::NAN.into(), "é".into(), false.into(), "z".into()],
                ],
            ),
        ),
        (
            "numbers",
            table(
                ["f", "g"],
                vec![
                    [1e16.into(), vec![1, 2].into()],
                    [1e-7.into(), vec![3].into()],
                    [f64::INFINITY.into(), null()],
                    [(-0.0).into(), empty_list()],
                ],
            ),
        ),
        (
            "maps",
            table(
                ["d", "n"],
                vec![
                    [map([("k", 1.into()), ("l", vec!["a"].into())]), null()],
                    [null(), null()],
                    [map([("k", 2.5.into()), ("l", empty_list())]), null()],
                ],
            ),
        ),
        ("empty", table(["a"], vec![])),
        ("mixed", Object::Table(mixed)),
        ("times", table(["t"], vec![[Value::Timestamp(1_767_323_045_678)], [null()]])),
        ("listnull", table(["l"], vec![[vec![Some(1), None].into()], [vec![2].into()]])),
        ("c", Object::Classes(cat())),
        ("c2", Object::Classes(Classes::new([(1, "dö'g"), (0, "z\"")]))),
        ("im", Object::Image(image())),
        ("captioned", Object::Image(image().caption("cap").classes(Classes::new([(0, "c'at")])))),
        (
            "pictures",
            table(
                ["img", "y"],
                vec![
                    [image().classes(cat()).into(), 1.into()],
                    [null(), 2.into()],
                    [image().classes(cat()).caption("c").into(), 3.into()],
                ],
            ),
        ),
        ("h", Object::Html(Html::new("<p>hi</p>"))),
    ]
}

#[test]
fn objects_are_stored_in_the_bytes_that_wandb_writes_and_are_read_back() {
    let test = TestStore::new();
    let store = test.store();
    let expected = written_by_wandb();
    for (name, object) in objects() {
        let mut artifact = Artifact::new("objects", None).unwrap();
        let path = artifact.add(name, &object).unwrap().to_string();
        let version = artifact.save(&store).unwrap().version;
        for (path, text) in &expected[name] {
            assert_eq!(read(&version, path), *text, "{name}: {path}");
        }
        assert!(expected[name].iter().any(|(p, _)| *p == path), "{name} is at {path}");
        // An image that is read does not know the names of its classes.
        if !["captioned", "pictures"].contains(&name) {
            assert_eq!(version.get(name).unwrap(), object, "{name}");
        }
    }
}

#[test]
fn a_table_and_classes_have_the_sizes_and_digests_that_are_known_of_wandb() {
    use base64::Engine as _;
    use md5::Digest as _;
    let written = written_by_wandb();
    for (name, bytes, digest) in [("pred", 756, "Ul37UhUfLVVhy2Pd3U6kFQ=="), ("c", 61, "WbdE6zIgMsGASOo5RTNsiw==")] {
        let (_, text) = &written[name][0];
        let md5: [u8; 16] = md5::Md5::digest(text).into();
        assert_eq!((text.len(), base64::engine::general_purpose::STANDARD.encode(md5).as_str()), (bytes, digest));
    }
}

#[test]
fn what_wandb_wrote_is_read_and_added_again_without_a_change() {
    let test = TestStore::new();
    let store = test.store();
    let digest = cairn::types::Digest::of(&PNG).to_string();
    for (name, files) in written_by_wandb() {
        let mut artifact = Artifact::new("theirs", None).unwrap();
        artifact.add_bytes(format!("media/images/{}/a.png", &digest[..20]), PNG).unwrap();
        for picture in files.iter().flat_map(|(_, text)| images::pictures_of_pixels(text)) {
            artifact.add_bytes(picture, PNG).unwrap();
        }
        if name == "h" {
            let page = files[0].1.split("\"path\": \"").nth(1).unwrap().split('"').next().unwrap();
            artifact.add_bytes(page, "<p>hi</p>").unwrap();
        }
        for (path, text) in &files {
            artifact.add_bytes(path, text).unwrap();
        }
        let theirs = artifact.save(&store).unwrap().version;
        let mut again = Artifact::new("again", None).unwrap();
        again.add(&name, &theirs.get(&name).unwrap()).unwrap();
        let saved = again.save(&store).unwrap();
        assert_eq!(saved.new_bytes, 0, "{name}: content of another version is stored once");
        for (path, text) in &files {
            assert_eq!(read(&saved.version, path), *text, "{name}: {path}");
        }
    }
}

#[test]
fn the_same_object_added_twice_is_one_entry_and_another_one_at_its_path_is_refused() {
    let test = TestStore::new();
    let store = test.store();
    let mut artifact = Artifact::new("a", None).unwrap();
    let first = artifact.add("c", &Classes::new([(0, "cat")])).unwrap();
    assert_eq!(artifact.add("c.classes.json", &Classes::new([(0, "cat")])).unwrap(), first);
    assert_eq!(artifact.save(&store).unwrap().version.record().entries, 1);
    artifact.add("c", &Classes::new([(0, "dog")])).unwrap();
    let refused = artifact.save(&store).unwrap_err();
    assert!(refused.message().contains("c.classes.json"), "{refused}");
}

#[test]
fn a_value_that_does_not_fit_its_column_is_refused_and_the_table_keeps_its_rows() {
    let mut table = Table::new(["id", "m"]);
    table.add_row([1.into(), map([("a", 1.into())])]).unwrap();
    for (row, message) in [
        (vec!["x".into(), Value::Null], "column id of the table holds numbers, but row 1 has the text x"),
        (vec![true.into(), Value::Null], "column id of the table holds numbers, but row 1 has a truth value (true)"),
        (vec![2.into()], "row 1 of the table has the wrong number of values: expected 2, found 1"),
        (
            vec![2.into(), map([("b", 1.into())])],
            "column m of the table holds maps with the same fields, but row 1 has a map ({\"b\": 1})",
        ),
    ] {
        assert_eq!(table.add_row(row).unwrap_err().message(), message);
        assert_eq!(table.rows().len(), 1);
    }
    let twice = Table::new(["a", "a"]);
    let refused = Artifact::new("a", None).unwrap().add("t", &twice).unwrap_err();
    assert_eq!(refused.message(), "the table has two columns named a");
}

#[test]
fn a_file_that_is_no_object_is_not_taken_for_one() {
    let test = TestStore::new();
    let mut artifact = Artifact::new("a", None).unwrap();
    artifact.add("config", &Json(&[("lr", 0.1)])).unwrap();
    artifact.add_bytes("new.table.json", r#"{"_type": "partitioned-table", "parts_path": "p"}"#).unwrap();
    artifact.add_bytes("broken.table.json", r#"{"_type": "table", "columns": ["a"], "data": [[1, 2]]}"#).unwrap();
    artifact.add_bytes("raw", [0xff, 0xfe]).unwrap();
    let version = artifact.save(&test.store()).unwrap().version;
    assert_eq!(read(&version, "config.json"), r#"[["lr", 0.1]]"#);
    for path in ["config.json", "new", "broken", "raw"] {
        let refused = version.get(path).unwrap_err();
        assert!(refused.message().contains("is not a table"), "{refused}");
    }
    assert_eq!(version.get("nothing").unwrap_err().kind(), cairn::Kind::NotFound);
    assert_eq!(
        Image::from_bytes("a.png", *b"no picture").unwrap_err().message(),
        "a.png is not an image that can be read"
    );
}

#[test]
fn put_makes_tables_of_csv_and_json_lines_and_table_prints_them() {
    let test = TestStore::new();
    let csv = "id,zip,score,ok,note\n1,01234,0.5,true,\"a, \"\"b\"\"\"\n2,99999,,false,\n";
    std::fs::write(test.path("pred.csv"), csv).unwrap();
    std::fs::write(test.path("log.jsonl"), "{\"b\": 1, \"a\": [1, 2]}\n\n{\"a\": null, \"c\": \"x\"}\n").unwrap();
    let put = ["put", "eval", "--at", "out", "--table", "pred.csv", "--table", "log.jsonl"];
    let out = test.cairn(&put).current_dir(test.path("")).output().unwrap();
    assert_eq!(text(&out.stdout), "eval:v0\n", "{}", text(&out.stderr));
    assert_eq!(test.ok(&["ls", "eval", "-R"]), "out/\nout/log.table.json\nout/pred.table.json");
    assert_eq!(
        test.ok(&["table", "eval", "out/pred"]),
        "id  zip    score  ok     note\n 1  01234    0.5  true   a, \"b\"\n 2  99999         false"
    );
    assert_eq!(test.ok(&["table", "eval", "out/pred.table.json", "--format", "csv"]), csv.trim_end());
    assert_eq!(
        test.ok(&["table", "eval", "out/pred", "--head", "1", "--json"]),
        "{\"id\":1,\"zip\":\"01234\",\"score\":0.5,\"ok\":true,\"note\":\"a, \\\"b\\\"\"}"
    );
    assert_eq!(
        test.ok(&["table", "eval", "out/log", "--format", "json"]),
        "{\"b\":1,\"a\":[1,2],\"c\":null}\n{\"b\":null,\"a\":null,\"c\":\"x\"}"
    );
    let shown = test.json(&["show", "eval", "out/pred"]);
    assert_eq!((&shown["path"], &shown["kind"]), (&"out/pred.table.json".into(), &"file".into()));
    assert_eq!(shown["object"]["rows"], 2);
    let shown = test.ok(&["show", "eval", "out/pred"]);
    assert!(
        shown.contains("object:        table of 2 rows and 5 columns\n") && shown.ends_with(" 2  99999         false"),
        "{shown}"
    );
}

#[test]
fn show_says_what_an_entry_is_and_a_wrong_table_is_refused() {
    let test = TestStore::new();
    let store = test.store();
    let mut artifact = Artifact::new("pictures", None).unwrap();
    artifact.add("first", &image().caption("red")).unwrap();
    artifact.add_bytes("dir/x", "12").unwrap();
    artifact.save(&store).unwrap();
    let shown = test.ok(&["show", "pictures", "first"]);
    assert!(shown.ends_with("object:        png image of 3 × 2 pixels"), "{shown}");
    assert_eq!(test.json(&["show", "pictures", "first"])["object"]["caption"], "red");
    assert!(test.ok(&["show", "pictures", "dir"]).contains("kind:          directory\ncontent:       1 file, 2 B"));
    for (args, status, message) in [
        (vec!["show", "pictures", "none"], 6, "there is no none in pictures:v0"),
        (vec!["table", "pictures", "first"], 2, "first in pictures:v0 is not a table"),
        (
            vec!["table", "pictures", "dir/x"],
            2,
            "dir/x in pictures:v0 is not a table, image, list of classes or HTML page",
        ),
        (vec!["put", "t", "--table", "none.csv"], 6, "none.csv does not exist"),
        (vec!["put", "t", "--table", "none.xls"], 2, "none.xls is not a table: its name has another suffix"),
        (vec!["put", "t"], 2, "nothing to put"),
    ] {
        let out = test.cairn(&args).output().unwrap();
        assert_eq!(out.status.code(), Some(status), "{args:?}: {}", text(&out.stderr));
        assert!(text(&out.stderr).contains(message), "{args:?}: {}", text(&out.stderr));
    }
    std::fs::write(test.path("bad.jsonl"), "{\"a\": 1}\n[2]\n").unwrap();
    let out = test.cairn(&["put", "t", "--table", "bad.jsonl"]).current_dir(test.path("")).output().unwrap();
    assert!(text(&out.stderr).contains("line 2 is not a JSON object"), "{}", text(&out.stderr));
}

#[test]
fn an_object_of_another_version_is_a_reference_to_it() {
    let test = TestStore::new();
    let store = Store::open(test.store_path()).unwrap();
    let mut scores = Table::new(["picture", "n"]);
    scores.add_row([image().into(), 1.into()]).unwrap();
    let mut artifact = Artifact::new("one", None).unwrap();
    artifact.add("scores", &scores).unwrap();
    artifact.add("page", &Html::new("<p>")).unwrap();
    artifact.add("names", &Classes::new([(0, "cat")])).unwrap();
    artifact.add("cat", &image().caption("a cat")).unwrap();
    let one = artifact.save(&store).unwrap().version;
    let names = ["scores", "page", "names", "cat"];
    let get = |name: &str| one.get(name).unwrap();
    let mut artifact = Artifact::new("two", None).unwrap();
    for name in names {
        artifact.add(format!("of/{name}"), &get(name)).unwrap();
    }
    let two = artifact.save(&store).unwrap().version;
    assert_eq!(two.record().new_bytes, 0, "all content is shared");
    for name in names {
        assert_eq!(two.get(&format!("of/{name}")).unwrap(), get(name));
    }
    let shared: Vec<_> = two.record().shared.iter().map(|s| (s.at.clone().unwrap().to_string(), s.uri())).collect();
    let files = ["scores.table.json", "page.html-file.json", "names.classes.json", "cat.image-file.json"];
    assert_eq!(shared, files.map(|f| (format!("of/{f}"), format!("cairn://one:v0/{f}"))), "not the files they need");
    // What is changed after it was read is an object of its own, whose picture is shared.
    let (Object::Table(mut table), Object::Image(picture)) = (get("scores"), get("cat")) else { panic!() };
    table.add_row([Value::Null, 2.into()]).unwrap();
    let mut artifact = Artifact::new("three", None).unwrap();
    artifact.add("more", &table).unwrap();
    artifact.add("dog", &picture.caption("a dog")).unwrap();
    let three = artifact.save(&store).unwrap().version;
    assert_eq!((three.record().shared.len(), three.get("more").unwrap()), (0, Object::Table(table)));
    drop((one, two, three));
    test.ok(&["rm", "one", "--all"]);
    test.ok(&["gc", "--min-age", "0", "--wait"]);
    let two = store.version("two").unwrap();
    let Object::Table(table) = two.get("of/scores").unwrap() else { panic!() };
    let [Value::Image(picture), _] = &table.rows()[0][..] else { panic!() };
    assert_eq!(picture.bytes().unwrap(), PNG);
    test.ok(&["verify"]);
}

#[test]
fn an_object_of_a_version_keeps_the_bytes_that_another_program_wrote() {
    let test = TestStore::new();
    let store = Store::open(test.store_path()).unwrap();
    // Valid, but not in the form that cairn writes.
    let bytes = "{\"_type\": \"classes\",   \"class_set\": [ {\"name\": \"cat\", \"id\": 0} ] }";
    let mut artifact = Artifact::new("one", None).unwrap();
    artifact.add_bytes("c.classes.json", bytes).unwrap();
    let one = artifact.save(&store).unwrap().version;
    let two = version_with(&store, "two", "c", &one.get("c").unwrap());
    assert_eq!((read(&two, "c.classes.json").as_str(), two.digest()), (bytes, one.digest()));
}
