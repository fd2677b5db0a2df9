//! The picture as pixels.

use crate::{Live, svg};
use cormus_compose::Composition;
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree};

/// Most pixels across or down; a picture that would have more is made smaller.
const PIXELS_MAX: f32 = 8192.0;
/// Pixels for one of the SVG's units, so that letters are sharp on all screens.
const SCALE: f32 = 2.0;

/// Why there is no picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot make pixels of the picture: {0}; write it as SVG instead")]
pub struct PictureError(String);

/// Draws a composition as PNG, two pixels for one of the SVG's; less for pictures that would be larger than 8192 pixels.
///
/// # Errors
///
/// There is not enough memory for the pixels.
pub fn png(composition: &Composition, live: &Live) -> Result<Vec<u8>, PictureError> {
    let svg = svg(composition, live);
    let tree = Tree::from_str(&svg, &Options::default());
    let tree = tree.map_err(|error| PictureError(error.to_string()))?;
    let size = tree.size();
    let longest = size.width().max(size.height());
    let scale = SCALE.min(PIXELS_MAX / longest);
    let pixels = size.scale_by(scale).map(|size| size.to_int_size());
    let pixels = pixels.ok_or_else(|| PictureError("it has no size".to_owned()))?;
    let mut pixmap = Pixmap::new(pixels.width(), pixels.height())
        .ok_or_else(|| PictureError("it is too large".to_owned()))?;
    resvg::render(
        &tree,
        Transform::from_scale(scale, scale),
        &mut pixmap.as_mut(),
    );
    pixmap
        .encode_png()
        .map_err(|error| PictureError(error.to_string()))
}
