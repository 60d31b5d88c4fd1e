//! The annotations of an artifact, in a form that one process can pass to another.

use super::builder::Artifact;
use crate::catalog::Metadata;
use crate::error::Result;
use crate::types::{AliasName, ArtifactName, ArtifactType, Tag};
use serde::{Deserialize, Serialize};

/// Type, description, metadata, tags and aliases.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ArtifactAnnotations {
    #[serde(rename = "type")]
    kind: Option<ArtifactType>,
    description: Option<String>,
    metadata: Option<Metadata>,
    tags: Vec<Tag>,
    aliases: Vec<AliasName>,
}

impl ArtifactAnnotations {
    /// Those of `artifact`.
    pub fn of(artifact: &Artifact) -> ArtifactAnnotations {
        let Artifact { kind, description, metadata, tags, aliases, .. } = artifact;
        ArtifactAnnotations {
            kind: kind.clone(),
            description: description.clone(),
            metadata: metadata.clone(),
            tags: tags.clone(),
            aliases: aliases.clone(),
        }
    }

    /// An artifact with these annotations and nothing in it.
    ///
    /// # Errors
    /// Usage: metadata beyond its bounds.
    pub fn artifact(self, name: &ArtifactName) -> Result<Artifact> {
        let mut artifact = Artifact::new(name.as_str(), None)?;
        if let Some(metadata) = self.metadata {
            artifact.set_metadata(metadata)?;
        }
        artifact.kind = self.kind;
        artifact.description = self.description;
        artifact.tags = self.tags;
        artifact.aliases = self.aliases;
        Ok(artifact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_cross_as_json_and_give_the_same_artifact() {
        let mut artifact = Artifact::new("a", "model").unwrap();
        let metadata = serde_json::json!({ "k": [1, null, "é"] }).as_object().cloned().unwrap();
        artifact.set_metadata(metadata).unwrap().set_description("d\n\"q\"");
        artifact.add_tag("t").unwrap().add_alias("best").unwrap();
        let given = ArtifactAnnotations::of(&artifact);
        let text = serde_json::to_string(&given).unwrap();
        let back = serde_json::from_str::<ArtifactAnnotations>(&text).unwrap().artifact(artifact.name()).unwrap();
        assert_eq!(ArtifactAnnotations::of(&back), given);
    }
}
