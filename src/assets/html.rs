//! HTML pages.

use super::asset::{Asset, AssetFile, Source, md5_hex};
use super::image::read_file;
use super::python_json;
use super::value::{Value, map, text_at};
use crate::catalog::Version;
use crate::error::Result;
use crate::types::Digest;
use std::collections::BTreeMap;

/// An HTML page. It is stored as `NAME.html-file.json`, in the form of W&B's `wandb.Html`, and the page itself as
/// `media/html/….html`, unchanged.
#[derive(Clone, Debug)]
pub struct Html {
    text: String,
    pub(super) source: Source,
    /// Where the page is in the version that it was read from.
    page: Option<(Version, String)>,
}

impl PartialEq for Html {
    fn eq(&self, other: &Html) -> bool {
        self.text == other.text
    }
}

impl Html {
    /// A page.
    pub fn new(text: impl Into<String>) -> Html {
        Html { text: text.into(), source: Source::default(), page: None }
    }

    /// The page's text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The page that a parsed file describes.
    pub(super) fn parse(fields: &BTreeMap<String, Value>, version: &Version) -> Result<Option<Html>> {
        let Some(path) = text_at(fields, "path") else { return Ok(None) };
        let page = Some((version.clone(), path.to_owned()));
        let text = String::from_utf8(read_file(version, path)?).ok();
        Ok(text.map(|text| Html { page, ..Html::new(text) }))
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
        let page = match &self.page {
            Some((version, path)) => AssetFile::of(version, path),
            None => AssetFile::at(&path, bytes.to_vec()),
        };
        Ok(vec![self.source.main_or(|| python_json::write(&fields)), page])
    }
}
