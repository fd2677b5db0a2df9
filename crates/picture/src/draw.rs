//! The picture as SVG.

use crate::layout::{Extent, Layout, Link, Point, Rect, Way, layout};
use crate::letters::{advance, drawn, outline, width};
use crate::scene::{
    Arrow, Box, Kind, LABEL_SIZE, LINE_HEIGHT, LINE_SIZE, Line, MARK, NAME_SIZE, PADDING, Scene,
};
use cormus_compose::lifecycle::State;
use std::collections::BTreeSet;
use std::fmt::Write;

const INK: &str = "#1f2933";
const FAINT: &str = "#647380";
const ARROW: &str = "#3e5c76";
const REFUSED: &str = "#c81e1e";
/// Room for the title, and for the note below.
const TITLE: f64 = 34.0;
const TITLE_SIZE: f64 = 17.0;
const NOTE: f64 = 22.0;
/// Length of an arrow's point.
const POINT: f64 = 8.0;

pub(crate) struct Picture {
    pub(crate) svg: String,
    /// Where texts stand, for those who check that none meets another.
    #[cfg(test)]
    pub(crate) texts: Vec<(Rect, String)>,
    #[cfg(test)]
    pub(crate) size: Extent,
}

pub(crate) fn draw(scene: &Scene) -> Picture {
    let layout = place(scene);
    let mut pen = Pen::default();
    let title = width(&scene.title, TITLE_SIZE) + 48.0;
    let note = scene.note.as_deref().unwrap_or_default();
    let size = Extent {
        width: layout
            .size
            .width
            .max(title)
            .max(width(note, LABEL_SIZE) + 48.0)
            .ceil(),
        height: (layout.size.height + TITLE + if note.is_empty() { 0.0 } else { NOTE }).ceil(),
    };
    pen.text(24.0, 32.0, TITLE_SIZE, INK, &scene.title);
    if !note.is_empty() {
        pen.text(24.0, size.height - 12.0, LABEL_SIZE, FAINT, note);
    }
    let _ = writeln!(pen.body, "<g transform=\"translate(0 {TITLE})\">");
    pen.down = TITLE;
    for (arrow, (way, label)) in scene
        .arrows
        .iter()
        .zip(layout.ways.iter().zip(&layout.labels))
    {
        pen.arrow(arrow, way, *label);
    }
    for (part, rect) in scene.boxes.iter().zip(&layout.boxes) {
        pen.part(part, *rect);
    }
    pen.body.push_str("</g>\n");
    Picture {
        svg: pen.finish(size, &scene.title),
        #[cfg(test)]
        texts: pen.texts,
        #[cfg(test)]
        size,
    }
}

fn place(scene: &Scene) -> Layout {
    let boxes: Vec<Extent> = scene
        .boxes
        .iter()
        .map(|part| Extent {
            width: part.width,
            height: part.height,
        })
        .collect();
    let links: Vec<Link> = scene
        .arrows
        .iter()
        .map(|arrow| Link {
            from: arrow.from,
            to: arrow.to,
            label: label(&arrow.label),
            is_weak: arrow.is_refused,
        })
        .collect();
    layout(&boxes, &links)
}

fn label(text: &str) -> Extent {
    if text.is_empty() {
        return Extent {
            width: 0.0,
            height: 0.0,
        };
    }
    Extent {
        width: width(text, LABEL_SIZE) + 12.0,
        height: LABEL_SIZE + 8.0,
    }
}

const fn colour(state: State) -> &'static str {
    match state {
        State::Ready => "#2f9e44",
        State::Waiting | State::Starting | State::Stopping | State::Restarting => "#e8a013",
        State::Paused | State::Suspended => "#3b76d1",
        State::Failed => REFUSED,
        State::Inactive => "#9aa5b1",
    }
}

#[derive(Default)]
struct Pen {
    body: String,
    used: BTreeSet<char>,
    down: f64,
    #[cfg(test)]
    texts: Vec<(Rect, String)>,
}

impl Pen {
    /// A text by its left end and base line.
    fn text(&mut self, x: f64, y: f64, size: f64, colour: &str, text: &str) {
        #[cfg(test)]
        self.texts.push((
            Rect {
                x,
                y: y + self.down - size * 0.76,
                width: width(text, size),
                height: size,
            },
            text.to_owned(),
        ));
        let scale = size / 1000.0;
        let _ = write!(
            self.body,
            "<g fill=\"{colour}\" transform=\"translate({x:.1} {y:.1}) scale({scale})\"><title>{}</title>",
            escaped(text)
        );
        let mut at = 0;
        for letter in text.chars().map(drawn) {
            if !outline(letter).is_empty() {
                self.used.insert(letter);
                let _ = write!(
                    self.body,
                    "<use href=\"#c{:x}\" x=\"{at}\"/>",
                    u32::from(letter)
                );
            }
            at += advance(letter);
        }
        self.body.push_str("</g>\n");
    }

    fn arrow(&mut self, arrow: &Arrow, way: &Way, label: Rect) {
        let colour = if arrow.is_refused { REFUSED } else { ARROW };
        let dashes = if arrow.is_refused {
            " stroke-dasharray=\"6 4\""
        } else {
            ""
        };
        let _ = writeln!(
            self.body,
            "<path d=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"{dashes}/>",
            path(way)
        );
        let (tip, back) = if way.is_turned {
            (way.points[0], POINT)
        } else {
            (way.points[way.points.len() - 1], -POINT)
        };
        let Point { x, y } = tip;
        let (base, half) = (x + back, POINT / 2.0);
        let _ = writeln!(
            self.body,
            "<path d=\"M{x:.1} {y:.1}L{base:.1} {:.1}V{:.1}Z\" fill=\"{colour}\"/>",
            y - half,
            y + half
        );
        if !arrow.label.is_empty() {
            let base = label.y + label.height - 6.0;
            self.text(label.x + 6.0, base, LABEL_SIZE, colour, &arrow.label);
        }
    }

    fn part(&mut self, part: &Box, rect: Rect) {
        let Rect {
            x,
            y,
            width: wide,
            height,
        } = rect;
        let (fill, border, radius) = match part.kind {
            Kind::Component => ("#f5f8fb", ARROW, 6.0),
            Kind::Port => ("#e6f4ea", "#2f7d4f", height / 2.0),
            Kind::Outside => ("#fdf3e1", "#b7791f", height / 2.0),
        };
        let _ = writeln!(
            self.body,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{height:.1}\" rx=\"{radius:.1}\" fill=\"{fill}\" stroke=\"{border}\" stroke-width=\"1.5\"/>"
        );
        if part.kind != Kind::Component {
            self.text(
                x + PADDING,
                y + height / 2.0 + 4.0,
                LABEL_SIZE,
                INK,
                &part.title,
            );
            return;
        }
        // A box that is high for its arrows has its text in the middle.
        let mut base = y + (height - part.height) / 2.0 + PADDING + NAME_SIZE - 3.0;
        self.text(x + PADDING, base, NAME_SIZE, INK, &part.title);
        for line in &part.lines {
            base += LINE_HEIGHT;
            if let Line::State(state) = line {
                let _ = writeln!(
                    self.body,
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"{}\"/>",
                    x + PADDING + 4.0,
                    base - 4.0,
                    colour(*state)
                );
            }
            let ink = if matches!(line, Line::State(_)) {
                INK
            } else {
                FAINT
            };
            debug_assert!(line.indent() <= MARK);
            self.text(
                x + PADDING + line.indent(),
                base,
                LINE_SIZE,
                ink,
                &line.text(),
            );
        }
    }

    fn finish(&self, size: Extent, title: &str) -> String {
        let Extent { width, height } = size;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n<title>{}</title>\n<defs>\n",
            escaped(title)
        );
        for letter in &self.used {
            let _ = writeln!(
                svg,
                "<path id=\"c{:x}\" d=\"{}\"/>",
                u32::from(*letter),
                outline(*letter)
            );
        }
        svg.push_str("</defs>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n");
        svg.push_str(&self.body);
        svg.push_str("</svg>\n");
        svg
    }
}

/// Straight within columns, in curves between them.
fn path(way: &Way) -> String {
    let mut path = String::new();
    let mut last: Option<Point> = None;
    for pair in way.points.chunks(2) {
        let (Point { x, y }, end) = (pair[0], pair[pair.len() - 1]);
        match last {
            None => {
                let _ = write!(path, "M{x:.1} {y:.1}");
            }
            Some(from) => {
                let middle = f64::midpoint(from.x, x);
                let _ = write!(
                    path,
                    "C{middle:.1} {:.1} {middle:.1} {y:.1} {x:.1} {y:.1}",
                    from.y
                );
            }
        }
        let _ = write!(path, "H{:.1}", end.x);
        last = Some(end);
    }
    path
}

/// A text between tags. Characters that XML does not know at all become `?`.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push('?'),
            character if character.is_control() => escaped.push('?'),
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
