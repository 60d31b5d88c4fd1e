//! Images from pixels, with boxes and masks, alone and in tables.

use super::{image, read, table, version_with, written_by_wandb};
use crate::support::TestStore;
use cairn::assets::{BoundingBox, Boxes, Classes, Image, Mask, Object, Value};
use cairn::{Artifact, Kind};

/// The places in an image's JSON where pictures that were made of pixels are named: path and SHA-256 follow from the
/// PNG's bytes, which another encoder writes otherwise.
fn pixel_pictures(text: &str) -> Vec<(std::ops::Range<usize>, std::ops::Range<usize>)> {
    let mut found = Vec::new();
    for (at, begin) in text.match_indices("\"path\": \"media/images/") {
        let path = at + "\"path\": \"".len();
        let end = path + text[path..].find('"').unwrap();
        let name = text[at + begin.len()..end].trim_start_matches("mask/");
        let sha256 = end + "\", \"sha256\": \"".len();
        if !name.contains('/') {
            found.push((path..end, sha256..sha256 + 64));
        }
    }
    found
}

/// The paths of pictures that were made of pixels.
pub fn pictures_of_pixels(text: &str) -> Vec<String> {
    pixel_pictures(text).into_iter().map(|(path, _)| text[path].to_owned()).collect()
}

/// A text in which neither the names nor the digests of such pictures are.
fn without_digests(text: &str) -> String {
    let mut out = text.to_owned();
    for (path, sha256) in pixel_pictures(text).into_iter().rev() {
        out.replace_range(sha256, "SHA256");
        let directory = text[path.clone()].rsplit_once('/').unwrap().0;
        let suffix = text[path.clone()].split_once('.').unwrap().1;
        out.replace_range(path, &format!("{directory}/MD5.{suffix}"));
    }
    out
}

fn pixels(channels: usize) -> Image {
    Image::from_pixels(3, 2, channels, &(0..6 * channels as u8).collect::<Vec<_>>()).unwrap()
}

fn corners() -> BoundingBox {
    BoundingBox::corners(0, [0.1, 0.3], [0.2, 0.4])
}

/// A box whose position has whole numbers, as W&B's users write it.
fn center() -> BoundingBox {
    let json = r#"{"position": {"middle": [150, 20], "width": 68, "height": 12.5}, "domain": "pixel", "class_id": 3}"#;
    let value: serde_json::Value = serde_json::from_str(json).unwrap();
    BoundingBox::try_from(Value::from(value)).unwrap().caption("a b").score("acc", 0.25)
}

fn two_layers(image: Image) -> Image {
    let named = Boxes::new([center()]).labels([(3, "dog"), (1, "cow")]);
    image.boxes("t", Boxes::new([corners(), center()])).boxes("p", named)
}

fn masks(image: Image) -> Image {
    let mask = Mask::from_pixels(3, 2, &[0, 1, 1, 2, 0, 127]).unwrap().labels([(0, "sky"), (1, "cat"), (2, "x")]);
    image.mask("m", mask).mask("u", Mask::from_pixels(3, 2, &[5, 1, 1, 5, 1, 1]).unwrap())
}

/// The images of `written_by_wandb.py` that have pixels, boxes or masks.
fn objects() -> Vec<(&'static str, Object)> {
    let cat = || Classes::new([(0, "cat")]);
    let one = || Boxes::new([corners()]).labels([(0, "cat")]);
    let boxed = || image().classes(cat()).boxes("p", one());
    vec![
        ("pixels", Object::Image(pixels(3).caption("from an array"))),
        ("gray", Object::Image(Image::from_pixels(3, 2, 1, &[0, 3, 6, 9, 12, 15]).unwrap())),
        ("alpha", Object::Image(pixels(4).grouping(7))),
        ("boxes", Object::Image(boxed())),
        ("boxtable", table(["i"], vec![[boxed().into()]])),
        ("twoboxes", Object::Image(two_layers(image().classes(Classes::new([(3, "wolf"), (9, "z")]))))),
        ("masks", Object::Image(masks(image()))),
        (
            "everything",
            table(
                ["i"],
                vec![
                    [two_layers(image().classes(cat())).into()],
                    [Value::Null],
                    [masks(pixels(3)).boxes("p", one()).caption("c").grouping(2).into()],
                    [image().into()],
                ],
            ),
        ),
    ]
}

#[test]
fn images_with_pixels_boxes_and_masks_are_stored_as_wandb_writes_them() {
    let test = TestStore::new();
    let store = test.store();
    let expected = written_by_wandb();
    for (name, object) in objects() {
        let version = version_with(&store, "images", name, &object);
        for (path, text) in &expected[name] {
            let ours = read(&version, path);
            assert_eq!(without_digests(&ours), without_digests(text), "{name}: {path}");
            assert_eq!(ours == *text, pixel_pictures(text).is_empty(), "{name}: {path}");
        }
        // What is read is added again unchanged, and is stored once.
        let mut again = Artifact::new("again", None).unwrap();
        again.add(name, &version.get(name).unwrap()).unwrap();
        let again = again.save(&store).unwrap();
        assert_eq!((again.version.digest(), again.new_bytes), (version.digest(), 0), "{name}");
    }
}

#[test]
fn a_picture_of_pixels_is_a_png_named_by_its_md5_and_has_these_pixels() {
    use md5::Digest as _;
    let test = TestStore::new();
    for channels in [1, 3, 4] {
        let given: Vec<u8> = (0..6 * channels as u8).map(|n| n.wrapping_mul(37)).collect();
        let made = Image::from_pixels(3, 2, channels, &given).unwrap();
        let version = version_with(&test.store(), "pixels", "i", &Object::Image(made));
        let Object::Image(found) = version.get("i").unwrap() else { panic!("not an image") };
        let bytes = found.bytes().unwrap();
        let hex: String = md5::Md5::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(found.path(), format!("media/images/{}.png", &hex[..20]));
        let mut decoder = png::Decoder::new(std::io::Cursor::new(&bytes)).read_info().unwrap();
        let mut decoded = vec![0; decoder.output_buffer_size().unwrap()];
        let info = decoder.next_frame(&mut decoded).unwrap();
        assert_eq!((info.width, info.height, decoded), (3, 2, given), "{channels} channels");
        let shown = test.ok(&["show", "pixels", "i"]);
        assert!(shown.ends_with("object:        png image of 3 × 2 pixels"), "{shown}");
    }
}

#[test]
fn what_an_image_that_is_read_says_of_its_classes_boxes_and_masks() {
    let test = TestStore::new();
    let version = version_with(&test.store(), "images", "i", &Object::Image(masks(two_layers(image()))));
    let Object::Image(found) = version.get("i").unwrap() else { panic!("not an image") };
    let names: Vec<_> = found.class_names().collect();
    assert_eq!(names, [(0, "sky"), (3, "dog"), (1, "class_1"), (2, "x"), (5, "class_5")]);
    let boxes: Vec<_> = found.box_layers().flat_map(|(layer, boxes)| boxes.iter().map(move |b| (layer, b))).collect();
    assert_eq!(boxes.len(), 3);
    assert_eq!((boxes[0].0, boxes[0].1.class_id(), boxes[0].1.caption_text()), ("p", Some(3), Some("a b")));
    assert_eq!(boxes[0].1.scores().collect::<Vec<_>>(), [("acc", 0.25)]);
    assert_eq!(boxes[1].1.position()["maxX"], Value::Float(0.2));
    let layers: Vec<_> = found.mask_layers().map(|(layer, mask)| (layer, mask.bytes().unwrap())).collect();
    assert_eq!(layers[0], ("m", Mask::from_pixels(3, 2, &[0, 1, 1, 2, 0, 127]).unwrap().bytes().unwrap()));
    // In a table of its own, the column knows the classes of the image that was read.
    let version = version_with(&test.store(), "again", "t", &table(["i"], vec![[found.into()]]));
    let text = read(&version, "t.table.json");
    assert!(
        text.contains(r#""class_map": {"params": {"is_set": false, "val": {"0": "sky", "1": "class_1","#),
        "{text}"
    );
    assert!(text.contains(r#""p": {"3": "dog"}"#), "{text}");
}

#[test]
fn wrong_pixels_and_boxes_are_refused() {
    for (channels, bytes, message) in [
        (3, 17, "an image of 3 × 2 pixels with 3 bytes each does not have 17 bytes"),
        (2, 12, "an image cannot have 2 bytes a pixel"),
    ] {
        let refused = Image::from_pixels(3, 2, channels, &vec![0; bytes]).unwrap_err();
        assert_eq!((refused.kind(), refused.message()), (Kind::Usage, message));
    }
    assert_eq!(Image::from_pixels(0, 0, 3, &[]).unwrap_err().kind(), Kind::Usage);
    for (json, message) in [
        ("[]", "it is not a map"),
        (r#"{"class_id": 1}"#, "its position must have"),
        (r#"{"position": {"minX": 0, "maxX": 1, "minY": 0}}"#, "its position must have"),
        (r#"{"position": {"middle": [1], "width": 1, "height": 1}}"#, "its position must have"),
        (r#"{"position": {"middle": [1, 2], "width": 1, "height": 1}, "class_id": "a"}"#, "its class_id must be"),
        (r#"{"position": {"middle": [1, 2], "width": 1, "height": 1}, "scores": [1]}"#, "its scores must be"),
    ] {
        let value: serde_json::Value = serde_json::from_str(json).unwrap();
        let refused = BoundingBox::try_from(Value::from(value)).unwrap_err();
        assert!(refused.message().contains(message), "{json}: {refused}");
    }
    assert!(image().boxes("none", Boxes::new([])).class_names().next().is_none());
}
