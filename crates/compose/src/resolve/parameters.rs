//! Parameters: which value each has, and where it goes.

use super::error::{Errors, ResolveErrorKind, path};
use crate::manifest::{Component, Manifest, nearest, variable};
use crate::values::{Key, Name, WordError, quoted};
use indexmap::IndexMap;
use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// What is said about a composition beside its manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Another name for the composition.
    pub name: Option<Name>,
    /// Values of parameters, as text.
    pub parameters: BTreeMap<ParameterRef, String>,
    /// Addresses that names were given before, and keep.
    pub names: IndexMap<String, Ipv4Addr>,
    /// Components that run already, with numbers that are smaller for older ones. Of exports with the same rank the oldest wins; those
    /// of components that are not listed are equally young.
    pub ages: BTreeMap<Name, u64>,
}

impl Settings {
    /// Takes one `--set COMPONENT.PARAMETER=VALUE`, given without the `--set`.
    ///
    /// # Errors
    ///
    /// It has another form.
    pub fn set(&mut self, text: &str) -> Result<(), WordError> {
        let (parameter, value) = text.split_once('=').ok_or_else(|| malformed(text))?;
        self.parameters.insert(parameter.parse()?, value.to_owned());
        Ok(())
    }
}

/// A parameter of a component, `COMPONENT.PARAMETER`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParameterRef {
    /// The component.
    pub component: Name,
    /// Its parameter.
    pub parameter: Key,
}

impl fmt::Display for ParameterRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.component, self.parameter)
    }
}

impl FromStr for ParameterRef {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let (component, parameter) = text.split_once('.').ok_or_else(|| malformed(text))?;
        Ok(Self {
            component: component.parse()?,
            parameter: parameter.parse()?,
        })
    }
}

fn malformed(text: &str) -> WordError {
    WordError::new(
        format!("{} sets no parameter", quoted(text)),
        "write COMPONENT.PARAMETER=VALUE, such as app.workers=4",
    )
}

/// The values of all components' parameters, as programs are given them.
pub(super) fn values(
    manifest: &Manifest,
    settings: &Settings,
    errors: &mut Errors<'_>,
) -> BTreeMap<Name, IndexMap<Key, String>> {
    for setting in settings.parameters.keys() {
        check_known(manifest, setting, errors);
    }
    let components = manifest.components.iter();
    components
        .map(|(name, component)| (name.clone(), of_one(name, component, settings, errors)))
        .collect()
}

fn of_one(
    name: &Name,
    component: &Component,
    settings: &Settings,
    errors: &mut Errors<'_>,
) -> IndexMap<Key, String> {
    let mut values = IndexMap::new();
    for (key, parameter) in &component.parameters {
        let setting = ParameterRef {
            component: name.clone(),
            parameter: key.clone(),
        };
        let value = match settings.parameters.get(&setting) {
            Some(text) => parameter.value(text).map(Some),
            None => Ok(parameter.default.clone()),
        };
        match value {
            Ok(Some(value)) => {
                values.insert(key.clone(), value.to_string());
            }
            Ok(None) => errors.add(
                ResolveErrorKind::Parameter,
                &path(name, "parameters", key.as_str()),
                format!("the parameter `{key}` of `{name}` has no value"),
                format!("give `--set {setting}=VALUE`, or write a default"),
            ),
            Err(error) => errors.add(
                ResolveErrorKind::Parameter,
                &format!("--set {setting}"),
                format!("`--set {setting}`: {}", error.message),
                error.advice,
            ),
        }
    }
    values
}

fn check_known(manifest: &Manifest, setting: &ParameterRef, errors: &mut Errors<'_>) {
    let ParameterRef {
        component,
        parameter,
    } = setting;
    let (message, near) = match manifest.components.get(component) {
        Some(found) if found.parameters.contains_key(parameter) => return,
        Some(found) => {
            let known = found.parameters.keys().map(Key::as_str);
            let near = nearest(parameter.as_str(), known);
            let near = near.map(|near| format!("{component}.{near}"));
            (
                format!("component `{component}` has no parameter `{parameter}`"),
                near,
            )
        }
        None => {
            let known = manifest.components.keys().map(Name::as_str);
            let near = nearest(component.as_str(), known);
            let near = near.map(|near| format!("{near}.{parameter}"));
            (format!("there is no component `{component}`"), near)
        }
    };
    let advice = near.map_or_else(
        || "leave it out; `cormus config` shows what can be set".to_owned(),
        |near| format!("did you mean `--set {near}=…`?"),
    );
    let path = format!("--set {setting}");
    errors.add(
        ResolveErrorKind::Parameter,
        &path,
        format!("`{path}`: {message}"),
        advice,
    );
}

/// Longest argument or variable: Linux's bound (`MAX_ARG_STRLEN`).
const ARGUMENT_BYTES_MAX: usize = 128 << 10;
/// Longest arguments and environment of a program together: Linux's bound of 2 MiB, less what it needs itself.
const ARGUMENTS_BYTES_MAX: usize = (2 << 20) - (16 << 10);

/// Arguments and environment of a component's program, parameters filled in and added.
pub(super) fn fill(
    name: &Name,
    component: &Component,
    values: &IndexMap<Key, String>,
    errors: &mut Errors<'_>,
) -> (Vec<String>, IndexMap<String, String>) {
    let mut run = Vec::new();
    let mut env = IndexMap::new();
    let mut bytes = 0;
    let mut take = |text: &str, path: String, errors: &mut Errors<'_>| {
        if errors.is_full() {
            return String::new();
        }
        let filled = substitute(text, component, values);
        let filled = filled.unwrap_or_else(|error| {
            errors.add(
                ResolveErrorKind::Parameter,
                &path,
                error.message,
                error.advice,
            );
            String::new()
        });
        // Each has a NUL and a pointer beside it.
        bytes += filled.len() + 9;
        if bytes > ARGUMENTS_BYTES_MAX {
            String::new()
        } else {
            filled
        }
    };
    for (index, text) in component.run.iter().enumerate() {
        run.push(take(text, format!("component.{name}.run[{index}]"), errors));
    }
    for (key, text) in &component.env {
        env.insert(key.clone(), take(text, path(name, "env", key), errors));
    }
    for (key, value) in values {
        env.insert(variable(key), value.clone());
    }
    if bytes > ARGUMENTS_BYTES_MAX {
        errors.add(
            ResolveErrorKind::Limit,
            &format!("component.{name}"),
            format!(
                "arguments and environment of `{name}` are longer than {ARGUMENTS_BYTES_MAX} bytes"
            ),
            "put what is long into a file, and write files = { \"/PATH\" = \"FILE\" }",
        );
    }
    (run, env)
}

const OPEN: &str = "${parameter.";

/// Puts the values of parameters for `${parameter.NAME}`; `$${parameter.` stands for itself less one `$`. All else stays.
fn substitute(
    text: &str,
    component: &Component,
    values: &IndexMap<Key, String>,
) -> Result<String, WordError> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(OPEN) {
        let (before, behind) = (&rest[..at], &rest[at + OPEN.len()..]);
        if let Some(before) = before.strip_suffix('$') {
            filled.push_str(before);
            filled.push_str(OPEN);
            rest = behind;
            continue;
        }
        filled.push_str(before);
        let (key, behind) = behind.split_once('}').ok_or_else(|| {
            WordError::new(
                format!("{} has no `}}` behind `{OPEN}`", quoted(text)),
                "write ${parameter.NAME}",
            )
        })?;
        if !component.parameters.contains_key(key) {
            return Err(unknown(key, component));
        }
        // Without a value there is an error already.
        filled.push_str(values.get(key).map_or("", String::as_str));
        if filled.len() > ARGUMENT_BYTES_MAX {
            break;
        }
        rest = behind;
    }
    filled.push_str(rest);
    if filled.len() > ARGUMENT_BYTES_MAX {
        let message = format!(
            "{} becomes longer than {ARGUMENT_BYTES_MAX} bytes",
            quoted(text)
        );
        return Err(WordError::new(message, "put what is long into a file"));
    }
    Ok(filled)
}

fn unknown(key: &str, component: &Component) -> WordError {
    let known = component.parameters.keys().map(Key::as_str);
    let advice = match nearest(key, known) {
        Some(near) => format!("did you mean ${{parameter.{near}}}?"),
        None => format!(
            "write parameters.NAME = {{ type = \"string\" }}, or $${{parameter.{key}}} if the program is to see it as it is"
        ),
    };
    WordError::new(format!("there is no parameter {}", quoted(key)), advice)
}
