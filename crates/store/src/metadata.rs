//! What a snapshot says about itself, beside the machine's state: when, from what, and what a host must offer.

use crate::SnapshotId;
use crate::error::Invalid;
use crate::limits::{ANCESTORS_MAX, METADATA_BYTES_MAX, TEXT_BYTES_MAX, TEXTS_MAX};
use crate::wire::{Reader, put_u16, put_u32, put_u64};
use std::collections::BTreeMap;

/// What the caller tells about a snapshot. The store keeps it and never interprets it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Version of the caller's `state` bytes.
    pub state_version: u32,
    /// Processor features without which the machine cannot be continued.
    pub cpu_features: Vec<String>,
    /// Facts of the host's kernel that the machine depends on.
    pub kernel_facts: Vec<String>,
    /// Free words: the machine's name, the image, who took it.
    pub labels: BTreeMap<String, String>,
}

/// A description with what the store adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// What the caller told.
    pub description: Description,
    /// Nanoseconds since 1970, by the clock of the host that took it.
    pub created_ns: u64,
    /// The parent, the parent's parent and so on, as far as [`ANCESTORS_MAX`].
    pub ancestors: Vec<SnapshotId>,
}

impl Metadata {
    /// The snapshot that this one continues.
    pub fn parent(&self) -> Option<SnapshotId> {
        self.ancestors.first().copied()
    }

    /// The stored form, or which part of it is too large.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, Invalid> {
        let mut out = Vec::new();
        put_u64(&mut out, self.created_ns);
        put_u32(&mut out, self.description.state_version);
        put_count(
            &mut out,
            "the number of ancestors",
            self.ancestors.len(),
            ANCESTORS_MAX,
        )?;
        for ancestor in &self.ancestors {
            out.extend_from_slice(&ancestor.0);
        }
        put_texts(
            &mut out,
            "the number of processor features",
            &self.description.cpu_features,
        )?;
        put_texts(
            &mut out,
            "the number of kernel facts",
            &self.description.kernel_facts,
        )?;
        put_count(
            &mut out,
            "the number of labels",
            self.description.labels.len(),
            TEXTS_MAX,
        )?;
        for (key, value) in &self.description.labels {
            put_text(&mut out, key)?;
            put_text(&mut out, value)?;
        }
        limit(
            "the size of the metadata",
            out.len(),
            METADATA_BYTES_MAX as usize,
        )?;
        Ok(out)
    }

    /// Reads the stored form; whatever it holds is checked.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Invalid> {
        let mut reader = Reader::new(bytes, "metadata");
        let created_ns = reader.u64()?;
        let state_version = reader.u32()?;
        let count = count(&mut reader, "the number of ancestors", ANCESTORS_MAX)?;
        let ancestors = (0..count)
            .map(|_| reader.array().map(SnapshotId))
            .collect::<Result<_, _>>()?;
        let cpu_features = texts(&mut reader, "the number of processor features")?;
        let kernel_facts = texts(&mut reader, "the number of kernel facts")?;
        let labels = labels(&mut reader)?;
        reader.end()?;
        Ok(Self {
            description: Description {
                state_version,
                cpu_features,
                kernel_facts,
                labels,
            },
            created_ns,
            ancestors,
        })
    }
}

fn limit(what: &'static str, found: usize, limit: usize) -> Result<(), Invalid> {
    if found <= limit {
        return Ok(());
    }
    Err(Invalid::Limit {
        what,
        found: found as u64,
        limit: limit as u64,
    })
}

/// All limits of counts are below 2^16, which [`limit`] has checked.
fn put_count(
    out: &mut Vec<u8>,
    what: &'static str,
    count: usize,
    count_max: usize,
) -> Result<(), Invalid> {
    limit(what, count, count_max)?;
    put_u16(out, count as u16);
    Ok(())
}

fn put_text(out: &mut Vec<u8>, text: &str) -> Result<(), Invalid> {
    put_count(out, "the length of a text", text.len(), TEXT_BYTES_MAX)?;
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn put_texts(out: &mut Vec<u8>, what: &'static str, texts: &[String]) -> Result<(), Invalid> {
    put_count(out, what, texts.len(), TEXTS_MAX)?;
    texts.iter().try_for_each(|text| put_text(out, text))
}

fn count(reader: &mut Reader<'_>, what: &'static str, count_max: usize) -> Result<usize, Invalid> {
    let count = usize::from(reader.u16()?);
    limit(what, count, count_max)?;
    Ok(count)
}

fn text(reader: &mut Reader<'_>) -> Result<String, Invalid> {
    let length = count(reader, "the length of a text", TEXT_BYTES_MAX)?;
    let bytes = reader.take(length)?;
    let text = str::from_utf8(bytes).map_err(|_| Invalid::Rule("a text is not UTF-8"))?;
    Ok(text.to_owned())
}

fn texts(reader: &mut Reader<'_>, what: &'static str) -> Result<Vec<String>, Invalid> {
    let count = count(reader, what, TEXTS_MAX)?;
    (0..count).map(|_| text(reader)).collect()
}

/// Keys ascend strictly, so that a description has one stored form only.
fn labels(reader: &mut Reader<'_>) -> Result<BTreeMap<String, String>, Invalid> {
    let count = count(reader, "the number of labels", TEXTS_MAX)?;
    let mut labels = BTreeMap::new();
    for _ in 0..count {
        let (key, value) = (text(reader)?, text(reader)?);
        if labels
            .last_key_value()
            .is_some_and(|(last, _)| *last >= key)
        {
            return Err(Invalid::Rule("the labels are not in order"));
        }
        labels.insert(key, value);
    }
    Ok(labels)
}

const _: () = assert!(ANCESTORS_MAX < 1 << 16 && TEXTS_MAX < 1 << 16 && TEXT_BYTES_MAX < 1 << 16);
