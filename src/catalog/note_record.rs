//! The record of a note, and what consecutive notes add up to.

use super::numbers::Numbered;
use super::origin::Actor;
use super::version_record::RunRecord;
use crate::types::Tag;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a run takes in a record, besides its names.
const RUN_BYTES: usize = 96;

/// A user's JSON object.
pub type Metadata = Map<String, Value>;

/// One change. Absent fields change nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// The new description.
    pub description: Option<String>,
    /// The new metadata, whole.
    pub metadata: Option<Metadata>,
    /// Tags added.
    pub add_tags: Vec<Tag>,
    /// Tags removed.
    pub remove_tags: Vec<Tag>,
    /// A run that made the same content again.
    pub produced_by: Option<RunRecord>,
    /// The new time to live, from the time of the commit; 0: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// What notes directly before this one add up to, so that they need not be read. It changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Box<NoteSummary>>,
    /// When, by the writer's clock.
    pub at: String,
    /// Who recorded it.
    #[serde(flatten)]
    pub by: Actor,
}

impl Numbered for Note {
    /// A note does not contain its number: all notes of a version count, in order.
    fn contradicts(&self, _: u64) -> Option<String> {
        None
    }
}

/// What consecutive notes add up to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NoteSummary {
    /// The number of the first of them.
    pub from: u64,
    /// The new description.
    pub description: Option<String>,
    /// The new metadata, whole.
    pub metadata: Option<Metadata>,
    /// Tags that are removed, before others are added.
    pub remove_tags: Vec<Tag>,
    /// Tags added.
    pub add_tags: Vec<Tag>,
    /// Runs that made the same content again.
    pub runs: Vec<RunRecord>,
    /// The new time to live; 0: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
}

impl NoteSummary {
    /// What the note of that number changes.
    pub(crate) fn of(number: u64, note: Note) -> NoteSummary {
        NoteSummary {
            from: number,
            description: note.description,
            metadata: note.metadata,
            remove_tags: note.remove_tags,
            add_tags: note.add_tags,
            runs: note.produced_by.into_iter().collect(),
            ttl_seconds: note.ttl_seconds,
        }
    }

    /// Adds what came directly before.
    pub(crate) fn prepend(&mut self, earlier: NoteSummary) {
        self.from = earlier.from;
        self.description = self.description.take().or(earlier.description);
        self.metadata = self.metadata.take().or(earlier.metadata);
        self.ttl_seconds = self.ttl_seconds.or(earlier.ttl_seconds);
        let mut added = earlier.add_tags;
        added.retain(|tag| !self.remove_tags.contains(tag));
        let removed = std::mem::replace(&mut self.remove_tags, earlier.remove_tags);
        add_new(&mut self.remove_tags, removed);
        add_new(&mut added, std::mem::take(&mut self.add_tags));
        self.add_tags = added;
        let runs = std::mem::replace(&mut self.runs, earlier.runs);
        self.runs.extend(runs);
    }

    /// About how many bytes the runs take in a record.
    pub(super) fn run_bytes(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        self.runs.iter().map(|r| RUN_BYTES + r.id.as_str().len() + text(&r.group) + text(&r.job_type)).sum()
    }
}

fn add_new(tags: &mut Vec<Tag>, more: Vec<Tag>) {
    for tag in more {
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
}
