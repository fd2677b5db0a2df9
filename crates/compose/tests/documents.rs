//! Every example in docs/manifest.md is what it says to be.

use cormus_compose::lifecycle::{Event, State, next};
use cormus_compose::{Manifest, Settings, resolve};

struct Block {
    line: usize,
    kind: String,
    text: String,
}

fn blocks(document: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut is_inside = false;
    for (index, line) in document.lines().enumerate() {
        if let Some(kind) = line.strip_prefix("```") {
            is_inside = !is_inside;
            if is_inside {
                let (line, kind) = (index + 1, kind.to_owned());
                found.push(Block {
                    line,
                    kind,
                    text: String::new(),
                });
            }
        } else if let Some(block) = found.last_mut().filter(|_| is_inside) {
            block.text.push_str(line);
            block.text.push('\n');
        }
    }
    found
}

/// A part of a manifest is made a whole one by a name.
fn whole(block: &Block) -> String {
    if block.text.contains("composition") {
        return block.text.clone();
    }
    format!("composition.name = \"example\"\n{}", block.text)
}

#[test]
fn examples_of_the_manifest() {
    let document = include_str!("../../../docs/manifest.md");
    let blocks = blocks(document);
    assert!(blocks.len() > 10);
    for (index, block) in blocks.iter().enumerate() {
        let manifest = Manifest::parse(&whole(block));
        match block.kind.as_str() {
            "toml" => {
                let manifest =
                    manifest.unwrap_or_else(|errors| panic!("line {}: {errors:#?}", block.line));
                if block.text.contains("[composition]") {
                    resolve(&manifest, &Settings::default()).unwrap();
                }
            }
            "toml bad" => {
                let error = &manifest.expect_err("an example of an error")[0];
                assert_eq!(
                    error.show("cormus.toml", &block.text),
                    blocks[index + 1].text
                );
            }
            "text" => {}
            other => panic!("line {}: a block of {other:?}", block.line),
        }
    }
}

/// Every key that there is stands in an example.
#[test]
fn every_key_has_an_example() {
    let document = include_str!("../../../docs/manifest.md");
    let examples: String = blocks(document)
        .iter()
        .map(|block| block.text.as_str())
        .collect();
    let schema = Manifest::schema();
    for definition in [
        "Component",
        "Import",
        "Export",
        "Parameter",
        "Health",
        "Stop",
        "Control",
        "Logs",
        "PolicySection",
    ] {
        for key in schema["$defs"][definition]["properties"]
            .as_object()
            .unwrap()
            .keys()
        {
            let written = [format!("{key} ="), format!("{key}.")];
            let is_there =
                key == "image" || written.iter().any(|text| examples.contains(text.as_str()));
            assert!(is_there, "{definition} has no example of {key}");
        }
    }
}

/// The table of states says what may be asked, as the life-cycle has it.
#[test]
fn states_of_the_manual() {
    let document = include_str!("../../../docs/manifest.md");
    let (_, document) = document.split_once("## States").unwrap();
    let asked = [
        ("start", Event::Start),
        ("stop", Event::Stop),
        ("pause", Event::Pause),
        ("resume", Event::Resume),
        ("suspend", Event::Suspend),
    ];
    for state in State::ALL {
        let begin = format!("| `{state}` |");
        let row = document.lines().find(|line| line.starts_with(&begin));
        let row = row.unwrap_or_else(|| panic!("{state} is not explained"));
        let said: Vec<&str> = row
            .trim_end_matches('|')
            .rsplit('|')
            .next()
            .unwrap()
            .split(", ")
            .collect();
        for (word, event) in asked {
            let is_said = said
                .iter()
                .any(|said| said.split_whitespace().next() == Some(word));
            assert_eq!(is_said, next(state, event).is_ok(), "{state}: {word}");
        }
    }
}
