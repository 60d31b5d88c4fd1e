//! The type of a column of images: what is known about the classes, boxes and masks of all images in it.

use super::value::{ClassNames, Image, Value, fields_at, map};
use std::collections::{BTreeMap, BTreeSet};

/// The parameters of W&B's type `image-file`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ImageType {
    /// The names of the classes by their numbers.
    classes: BTreeMap<String, Value>,
    boxes: Layers,
    masks: Layers,
    score_keys: BTreeSet<String>,
}

/// Layers of boxes or masks.
#[derive(Clone, Debug, Default, PartialEq)]
struct Layers {
    /// The numbers of the classes of each layer.
    numbers: BTreeMap<String, BTreeSet<i64>>,
    /// Their names.
    names: BTreeMap<String, BTreeMap<String, Value>>,
}

impl ImageType {
    /// The type of one image.
    pub fn of(image: &Image) -> ImageType {
        ImageType::default().with(image)
    }

    /// The type after one more image. The first name of a class counts.
    pub fn with(&self, image: &Image) -> ImageType {
        let mut all = self.clone();
        if let Some(file) = &image.classes {
            add_names(&mut all.classes, &file.names);
        }
        for (layer, boxes) in &image.boxes {
            all.boxes.add(layer, &boxes.class_names());
            all.score_keys.extend(boxes.iter().flat_map(|b| b.scores().map(|(name, _)| name.to_owned())));
        }
        for (layer, mask) in &image.masks {
            all.masks.add(layer, &mask.labels);
        }
        all
    }

    /// The parameters in W&B's format.
    pub fn params(&self) -> Value {
        let constant = |is_set: bool, value: Value| {
            let params = map([("is_set", is_set.into()), ("val", value)]);
            map([("params", params), ("wb_type", "const".into())])
        };
        let names = |layers: &Layers| {
            Value::Map(layers.names.iter().map(|(layer, names)| (layer.clone(), Value::Map(names.clone()))).collect())
        };
        let numbers = |layers: &Layers| {
            let list = |numbers: &BTreeSet<i64>| Value::from(numbers.iter().copied().collect::<Vec<_>>());
            Value::Map(layers.numbers.iter().map(|(layer, numbers)| (layer.clone(), list(numbers))).collect())
        };
        map([
            ("box_class_maps", constant(false, names(&self.boxes))),
            ("box_layers", constant(false, numbers(&self.boxes))),
            ("box_score_keys", constant(true, self.score_keys.iter().cloned().collect::<Vec<_>>().into())),
            ("class_map", constant(false, Value::Map(self.classes.clone()))),
            ("mask_class_maps", constant(false, names(&self.masks))),
            ("mask_layers", constant(false, numbers(&self.masks))),
        ])
    }

    /// The type with these parameters. A part that is not as expected is left out.
    pub fn parse(params: &BTreeMap<String, Value>) -> Option<ImageType> {
        let constant = |name: &str| fields_at(fields_at(params, name)?, "params")?.get("val");
        let score_keys = match constant("box_score_keys")? {
            Value::List(keys) => keys.iter().filter_map(|key| key.as_text().map(str::to_owned)).collect(),
            _ => return None,
        };
        let layers = |kind: &str| {
            Some(Layers {
                numbers: each(constant(&format!("{kind}_layers"))?, |numbers| match numbers {
                    Value::List(numbers) => Some(numbers.iter().filter_map(whole_number).collect()),
                    _ => None,
                })?,
                names: each(constant(&format!("{kind}_class_maps"))?, |names| match names {
                    Value::Map(names) => Some(names.clone()),
                    _ => None,
                })?,
            })
        };
        let Value::Map(classes) = constant("class_map")? else { return None };
        Some(ImageType { classes: classes.clone(), boxes: layers("box")?, masks: layers("mask")?, score_keys })
    }
}

impl Layers {
    fn add(&mut self, layer: &str, names: &ClassNames) {
        self.numbers.entry(layer.to_owned()).or_default().extend(names.iter().map(|(number, _)| *number));
        add_names(self.names.entry(layer.to_owned()).or_default(), names);
    }
}

fn add_names(to: &mut BTreeMap<String, Value>, names: &ClassNames) {
    for (number, name) in names {
        to.entry(number.to_string()).or_insert_with(|| name.as_str().into());
    }
}

/// A map with each value as `read` reads it.
fn each<T>(value: &Value, read: impl Fn(&Value) -> Option<T>) -> Option<BTreeMap<String, T>> {
    let Value::Map(fields) = value else { return None };
    fields.iter().map(|(name, value)| Some((name.clone(), read(value)?))).collect()
}

fn whole_number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(n) => i64::try_from(*n).ok(),
        _ => None,
    }
}
