//! Bounding boxes on images.

use super::value::{BoundingBox, Boxes, ClassNames, Value, fields_at, map, number_at, text_at};
use crate::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};

impl Boxes {
    /// These boxes. Without [`Boxes::labels`], the classes are called `class_0`, `class_1`, ….
    pub fn new(boxes: impl IntoIterator<Item = BoundingBox>) -> Boxes {
        Boxes { boxes: boxes.into_iter().collect(), labels: None }
    }

    /// Sets the names of the classes.
    #[must_use = "the boxes are returned, not changed in place"]
    pub fn labels<S: Into<String>>(mut self, labels: impl IntoIterator<Item = (i64, S)>) -> Boxes {
        self.labels = Some(labels.into_iter().map(|(number, name)| (number, name.into())).collect());
        self
    }

    /// The boxes, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &BoundingBox> {
        self.boxes.iter()
    }

    /// The names of the classes of this layer.
    pub(super) fn class_names(&self) -> ClassNames {
        let numbers = || self.boxes.iter().filter_map(BoundingBox::class_id).collect::<BTreeSet<_>>();
        self.labels.clone().unwrap_or_else(|| default_names(numbers()))
    }

    /// The boxes of a layer that was read; their classes have the names of the image's classes.
    pub(super) fn parse(value: &Value, names: &ClassNames) -> Option<Boxes> {
        let Value::List(items) = value else { return None };
        let boxes: Vec<BoundingBox> = items.iter().map(|item| item.clone().try_into().ok()).collect::<Option<_>>()?;
        let numbers: BTreeSet<i64> = boxes.iter().filter_map(BoundingBox::class_id).collect();
        let labels = default_names(numbers).into_iter().map(|(number, default)| {
            let known = names.iter().find(|(n, _)| *n == number).map(|(_, name)| name.clone());
            (number, known.unwrap_or(default))
        });
        Some(Boxes { labels: Some(labels.collect()), boxes })
    }

    pub(super) fn to_value(&self) -> Value {
        Value::List(self.boxes.iter().map(|b| Value::Map(b.0.clone())).collect())
    }
}

/// The names of classes that have none.
pub(super) fn default_names(numbers: impl IntoIterator<Item = i64>) -> ClassNames {
    numbers.into_iter().map(|number| (number, format!("class_{number}"))).collect()
}

impl BoundingBox {
    /// A box from its upper left to its lower right corner, each `[x, y]`, as fractions of the image's width and
    /// height.
    pub fn corners(class_id: i64, min: [f64; 2], max: [f64; 2]) -> BoundingBox {
        let position =
            map([("minX", min[0].into()), ("maxX", max[0].into()), ("minY", min[1].into()), ("maxY", max[1].into())]);
        BoundingBox::at(class_id, position)
    }

    /// A box around its middle `[x, y]`, as fractions of the image's width and height.
    pub fn around(class_id: i64, middle: [f64; 2], width: f64, height: f64) -> BoundingBox {
        let position = map([("middle", middle.to_vec().into()), ("width", width.into()), ("height", height.into())]);
        BoundingBox::at(class_id, position)
    }

    fn at(class_id: i64, position: Value) -> BoundingBox {
        BoundingBox([("class_id".to_owned(), class_id.into()), ("position".to_owned(), position)].into())
    }

    fn set(mut self, field: &str, value: impl Into<Value>) -> BoundingBox {
        self.0.insert(field.to_owned(), value.into());
        self
    }

    /// The position is in pixels.
    #[must_use = "the box is returned, not changed in place"]
    pub fn in_pixels(self) -> BoundingBox {
        self.set("domain", "pixel")
    }

    /// Sets a caption.
    #[must_use = "the box is returned, not changed in place"]
    pub fn caption(self, text: &str) -> BoundingBox {
        self.set("box_caption", text)
    }

    /// Sets a score by its name.
    #[must_use = "the box is returned, not changed in place"]
    pub fn score(self, name: &str, score: f64) -> BoundingBox {
        let mut scores = fields_at(&self.0, "scores").cloned().unwrap_or_default();
        scores.insert(name.to_owned(), score.into());
        self.set("scores", Value::Map(scores))
    }

    /// The number of its class, if it has one.
    pub fn class_id(&self) -> Option<i64> {
        number_at(&self.0, "class_id")
    }

    /// The caption, if it has one.
    pub fn caption_text(&self) -> Option<&str> {
        text_at(&self.0, "box_caption")
    }

    /// The scores by their names.
    pub fn scores(&self) -> impl Iterator<Item = (&str, f64)> {
        fields_at(&self.0, "scores").into_iter().flatten().filter_map(|(name, s)| Some((name.as_str(), s.as_f64()?)))
    }

    /// The position: `minX`, `maxX`, `minY` and `maxY`, or `middle`, `width` and `height`.
    pub fn position(&self) -> &BTreeMap<String, Value> {
        static NONE: BTreeMap<String, Value> = BTreeMap::new();
        fields_at(&self.0, "position").unwrap_or(&NONE)
    }
}

/// A box in W&B's form: a map with `position`, and perhaps `class_id`, `domain`, `box_caption`, `scores` and others.
impl TryFrom<Value> for BoundingBox {
    type Error = Error;

    fn try_from(value: Value) -> Result<BoundingBox> {
        let wrong = |what: &str| Err(Error::usage(format!("a box of an image is wrong: {what}")));
        let Value::Map(fields) = value else { return wrong("it is not a map") };
        let is_position = |position: &BTreeMap<String, Value>| {
            let numbers = |names: &[&str]| names.iter().all(|n| position.get(*n).is_some_and(|v| v.as_f64().is_some()));
            let middle = matches!(position.get("middle"), Some(Value::List(xy)) if xy.len() == 2);
            numbers(&["minX", "maxX", "minY", "maxY"]) || middle && numbers(&["width", "height"])
        };
        if !fields_at(&fields, "position").is_some_and(is_position) {
            return wrong("its position must have minX, maxX, minY and maxY, or middle, width and height");
        }
        let scores = fields.get("scores");
        if scores.is_some_and(|s| !matches!(s, Value::Map(s) if s.values().all(|s| s.as_f64().is_some()))) {
            return wrong("its scores must be numbers by their names");
        }
        if fields.get("class_id").is_some_and(|id| !matches!(id, Value::Int(_))) {
            return wrong("its class_id must be a whole number");
        }
        if fields.get("box_caption").is_some_and(|text| text.as_text().is_none()) {
            return wrong("its box_caption must be a text");
        }
        Ok(BoundingBox(fields))
    }
}
