//! Compositions as pictures.
//!
//! [`svg`] draws components as boxes with their states, bindings as arrows from who imports to who exports, published ports at the
//! left, places outside at the right, and refused flows in red. [`png`] makes pixels of it. Letters are drawn as outlines, so a picture
//! looks the same everywhere and needs no fonts, neither here nor where it is looked at. Nothing here does I/O.
//!
//! ```
//! use cormus_compose::{Manifest, Settings, resolve};
//! use cormus_picture::{Live, svg};
//!
//! let manifest = Manifest::parse("composition.name = \"one\"\n[component.web]\nrun = [\"nginx\"]\n").unwrap();
//! let composition = resolve(&manifest, &Settings::default()).unwrap();
//! assert!(svg(&composition, &Live::default()).starts_with("<svg"));
//! ```

mod draw;
mod layout;
mod letters;
mod png;
mod scene;

pub use png::{PictureError, png};

use cormus_compose::lifecycle::State;
use cormus_compose::{Composition, Name};
use std::collections::BTreeMap;

/// What a composition that runs adds to its picture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Live {
    /// The states of components; those that are not listed are drawn without one.
    pub states: BTreeMap<Name, State>,
    /// Flows that were tried and refused. At most 100 are drawn, the first ones.
    pub refused: Vec<Refused>,
}

/// A flow that was tried and refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Who tried it.
    pub from: End,
    /// Whom it was meant for.
    pub to: End,
    /// On what, such as a port.
    pub on: String,
    /// How often.
    pub count: u64,
}

/// One end of a flow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// A component.
    Component(Name),
    /// Somebody outside of the composition, by name or address.
    Outside(String),
}

/// Draws a composition as SVG.
#[must_use]
pub fn svg(composition: &Composition, live: &Live) -> String {
    let scene = scene::Scene::new(composition, live);
    draw::draw(&scene).svg
}
