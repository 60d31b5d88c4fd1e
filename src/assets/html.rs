//! HTML pages.

use super::asset::{Asset, AssetFile, md5_hex};
use super::image::read_file;
use super::python_json;
use super::value::{Value, map, text_at};
use crate::catalog::Version;
use crate::error::Result;
use crate::types::Digest;
use std::collections::BTreeMap;

/// An HTML page. It is stored as `NAME.html-file.json`, in the form of W&B's `wandb.Html`, and the page itself as
/// `media/html/….html`, unchanged.
#[derive(Clone, Debug, PartialEq)]
pub struct Html {
    text: String,
}

impl Html {
    /// A page.
    pub fn new(text: impl Into<String>) -> Html {
        Html { text: text.into() }
    }

    /// The page's text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The page that a parsed file describes.
    pub(super) fn parse(fields: &BTreeMap<String, Value>, version: &Version) -> Result<Option<Html>> {
        let Some(path) = text_at(fields, "path") else { return Ok(None) };
        Ok(String::from_utf8(read_file(version, path)?).ok().map(Html::new))
    }
}

impl Asset for Html {
    fn suffix(&self) -> &str {
        ".html-file.json"
    }

    fn files(&self) -> Result<Vec<AssetFile>> {
        let bytes = self.text.as_bytes();
        let path = format!("media/html/{}.html", &md5_hex(bytes)[..20]);
        let fields = map([
            ("_type", "html-file".into()),
            ("path", path.as_str().into()),
            ("sha256", Digest::of(bytes).to_string().into()),
        ]);
        Ok(vec![AssetFile::main(python_json::write(&fields)), AssetFile::at(&path, bytes.to_vec())])
    }
}
