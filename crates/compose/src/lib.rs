//! What a composition is: components, what they need of each other, and how they are run.
//!
//! [`Manifest`] is what a user writes. [`resolve`] makes a [`Composition`] of it: every import joined to an export, every parameter
//! with a value, every name with an address, the order of starting known. Everything here is a function of its arguments: no I/O,
//! clock, threads or randomness.
//!
//! ```
//! use cormus_compose::{Manifest, Settings, resolve};
//!
//! let manifest = Manifest::parse(
//!     r#"
//!     [composition]
//!     name = "guestbook"
//!
//!     [component.app]
//!     run = ["python3", "app.py"]
//!     imports.db = { interface = "postgresql", at = "db:5432", version = ">=13" }
//!
//!     [component.db]
//!     run = ["postgres"]
//!     exports.postgresql = { port = 5432, version = "15.0.0" }
//!     "#,
//! )
//! .unwrap();
//! let composition = resolve(&manifest, &Settings::default()).unwrap();
//! let order: Vec<&str> = composition.components.keys().map(|name| name.as_str()).collect();
//! assert_eq!(order, ["db", "app"]);
//! assert_eq!(composition.bindings[0].exports[0].component, "db");
//! ```

pub mod lifecycle;
pub mod manifest;
mod matching;
pub mod registry;
mod resolve;
pub mod values;

pub use manifest::{Manifest, ManifestError, Place};
pub use matching::{Mismatch, Need, Offer};
pub use resolve::{
    ADDRESS_FIRST, ADDRESS_LAST, Binding, Composition, ExportRef, Flow, ParameterRef, ResolveError,
    ResolveErrorKind, ResolvedComponent, ResolvedExport, Root, Route, Settings, Wait, resolve,
};
pub use values::{Interface, Key, Name};
