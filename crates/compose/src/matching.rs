//! Which exports an import takes, and which of them is best. The resolver asks before anything runs, the registry while it runs.

use crate::manifest::{Cardinality, Export, Import, Property, PropertyFilter};
use crate::values::{Interface, Key, Name, Range};
use indexmap::IndexMap;
use semver::Version;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::fmt;

/// What an export offers, as far as a choice depends on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Offer {
    /// The component that offers it.
    pub component: Name,
    /// What that component calls it.
    pub export: Key,
    /// The interface.
    pub interface: Interface,
    /// Its semantic version.
    #[schemars(with = "String")]
    pub version: Version,
    /// What filters look at.
    pub properties: IndexMap<Key, Property>,
    /// The greater number is better.
    pub rank: i32,
}

/// What an import wants, as far as a choice depends on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Need {
    /// The component that needs it.
    pub component: Name,
    /// What that component calls it.
    pub import: Key,
    /// The interface.
    pub interface: Interface,
    /// The versions that will do.
    pub version: Range,
    /// What properties must be.
    pub filter: IndexMap<Key, PropertyFilter>,
    /// How many it takes.
    pub cardinality: Cardinality,
    /// The component that must offer it.
    pub from: Option<Name>,
}

/// Why an export of the right interface is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    /// Its component is the one that needs it.
    Itself,
    /// Another component must offer it.
    NotFrom(Name),
    /// Its version is out of range.
    Version,
    /// A property is missing or another one.
    Property(Key),
}

impl Offer {
    /// What a component of a manifest offers.
    #[must_use]
    pub fn new(component: &Name, key: &Key, export: &Export) -> Self {
        Self {
            component: component.clone(),
            export: key.clone(),
            interface: export.interface.clone().unwrap_or_else(|| key.into()),
            version: export.version.clone(),
            properties: export.properties.clone(),
            rank: export.rank,
        }
    }
}

impl Need {
    /// What a component of a manifest needs.
    #[must_use]
    pub fn new(component: &Name, key: &Key, import: &Import) -> Self {
        Self {
            component: component.clone(),
            import: key.clone(),
            interface: import.interface.clone().unwrap_or_else(|| key.into()),
            version: import.version.clone(),
            filter: import.filter.clone(),
            cardinality: import.cardinality,
            from: import.from.clone(),
        }
    }

    /// Whether an offer of the same interface will do.
    ///
    /// # Errors
    ///
    /// The first reason why not.
    pub fn takes(&self, offer: &Offer) -> Result<(), Mismatch> {
        if let Some(from) = self.from.as_ref().filter(|from| **from != offer.component) {
            return Err(Mismatch::NotFrom(from.clone()));
        }
        if self.component == offer.component {
            return Err(Mismatch::Itself);
        }
        if !self.version.holds(&offer.version) {
            return Err(Mismatch::Version);
        }
        let unfit =
            |(key, filter): &(&Key, &PropertyFilter)| !filter.takes(offer.properties.get(*key));
        match self.filter.iter().find(unfit) {
            Some((key, _)) => Err(Mismatch::Property(key.clone())),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` of `{}`", self.export, self.component)
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` of `{}`", self.import, self.component)
    }
}

/// The order of candidates, best first: the greater rank, then the smaller age number (the older).
pub(crate) fn preference(rank: i32, age: u64) -> (Reverse<i32>, u64) {
    (Reverse(rank), age)
}
