//! Texts with placeholders: `${NAME}` stands for what varies from run to run, such as a client id.
//!
//! The first place of a name takes what stands there, and all later places must have the same. `${any}`
//! takes anything at each place. `$${` stands for the two characters `${`.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{bail, ensure};

/// The placeholder that takes something else at each place.
const ANY: &str = "any";

/// The most placeholders in one text.
const PLACEHOLDERS: usize = 64;

/// What the placeholders of a scenario have taken, by their names.
pub(super) type TakenValues = BTreeMap<String, String>;

/// A text with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<TemplatePart>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum TemplatePart {
    Text(String),
    Placeholder(String),
}

impl Template {
    /// Reads a text with placeholders.
    ///
    /// # Errors
    ///
    /// A placeholder has no name, or no end, or there are too many.
    pub(super) fn parse(text: &str) -> anyhow::Result<Template> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let (before, from) = rest.split_at(at);
            if let Some(before) = before.strip_suffix('$') {
                literal.push_str(before);
                literal.push_str("${");
                rest = &from[2..];
                continue;
            }
            literal.push_str(before);
            let name = from[2..].split_once('}').map(|(name, _)| name);
            let Some(name) = name.filter(|name| is_name(name)) else {
                bail!(
                    "`${{` begins a placeholder, which is `${{NAME}}` with a-z, A-Z, 0-9, - and _; `$${{` \
                     stands for these two characters"
                );
            };
            if !literal.is_empty() {
                parts.push(TemplatePart::Text(std::mem::take(&mut literal)));
            }
            ensure!(
                !matches!(parts.last(), Some(TemplatePart::Placeholder(_))),
                "between two placeholders there must be some text, which says where the first one ends"
            );
            parts.push(TemplatePart::Placeholder(name.to_owned()));
            ensure!(
                parts.len() <= 2 * PLACEHOLDERS,
                "a text may have {PLACEHOLDERS} placeholders"
            );
            rest = &from[name.len() + 3..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(TemplatePart::Text(literal));
        }
        Ok(Template(parts))
    }

    /// The text, with what the placeholders have taken.
    ///
    /// # Errors
    ///
    /// A placeholder has taken nothing yet.
    pub(super) fn fill(&self, taken: &TakenValues) -> anyhow::Result<String> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                TemplatePart::Text(part) => text.push_str(part),
                TemplatePart::Placeholder(name) => match taken.get(name) {
                    Some(value) => text.push_str(value),
                    None if name == ANY => {
                        bail!("`${{any}}` takes anything, and has no value to send")
                    }
                    None => bail!(
                        "`${{{name}}}` has no value yet: a line with `<` that has it must come before"
                    ),
                },
            }
        }
        Ok(text)
    }

    /// The only placeholder, if the text is nothing else.
    pub(super) fn whole(&self) -> Option<&str> {
        match &*self.0 {
            [TemplatePart::Placeholder(name)] => Some(name),
            _ => None,
        }
    }

    /// The names of the placeholders.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            TemplatePart::Placeholder(name) => Some(name.as_str()),
            TemplatePart::Text(_) => None,
        })
    }

    /// Whether this text fits. If so, the placeholders take what stands at their places, each as little as
    /// possible.
    pub(super) fn matches(&self, text: &str, taken: &mut TakenValues) -> bool {
        let mut now = taken.clone();
        let fits = self.take(text, &mut now).is_some();
        if fits {
            *taken = now;
        }
        fits
    }

    fn take(&self, text: &str, taken: &mut TakenValues) -> Option<()> {
        let mut parts = self.0.iter().peekable();
        let mut rest = text;
        let mut open: Option<&str> = None;
        loop {
            // What is known of the text up to the next placeholder that takes something.
            let mut literal = String::new();
            while let Some(part) = parts.peek() {
                match part {
                    TemplatePart::Text(part) => literal.push_str(part),
                    TemplatePart::Placeholder(name) => match taken.get(name) {
                        Some(value) if open != Some(name) => literal.push_str(value),
                        _ => break,
                    },
                }
                parts.next();
            }
            let next = parts.next();
            let at = match (open, next) {
                (None, None) => return (rest == literal).then_some(()),
                (None, Some(_)) => rest.starts_with(&literal).then_some(0)?,
                (Some(_), None) => {
                    let at = rest.len().checked_sub(literal.len())?;
                    rest.ends_with(&literal).then_some(at)?
                }
                (Some(_), Some(_)) => rest.find(&literal)?,
            };
            if let Some(name) = open {
                take_value(name, &rest[..at], taken).then_some(())?;
            }
            rest = &rest[at + literal.len()..];
            open = match next {
                Some(TemplatePart::Placeholder(name)) => Some(name),
                _ => return Some(()),
            };
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            TemplatePart::Text(text) => f.write_str(&text.replace("${", "$${")),
            TemplatePart::Placeholder(name) => write!(f, "${{{name}}}"),
        })
    }
}

/// Gives a placeholder its value, or returns whether it has this one already.
pub(super) fn take_value(name: &str, value: &str, taken: &mut TakenValues) -> bool {
    if name == ANY {
        return true;
    }
    match taken.get(name) {
        Some(former) => former == value,
        None => taken.insert(name.to_owned(), value.to_owned()).is_none(),
    }
}

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !name.is_empty() && name.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(template: &str, text: &str, taken: &mut TakenValues) -> bool {
        let template = Template::parse(template).expect(template);
        template.matches(text, taken)
    }

    #[test]
    fn a_placeholder_takes_what_stands_there_and_stays_so() {
        let mut taken = TakenValues::new();
        assert!(fits("you are ${id}!", "you are 7a!", &mut taken));
        assert!(fits("${id}: hello", "7a: hello", &mut taken));
        assert!(!fits("${id}: hello", "8a: hello", &mut taken));
        assert!(fits("${any}, ${any}", "a, b", &mut taken));
        assert!(fits("${x}-${y}-${x}", "1-2-1", &mut taken));
        assert!(!fits("${p}-${p}", "1-2", &mut taken));
        assert_eq!(taken.get("p"), None, "what does not fit takes nothing");
        assert!(fits("${a}aa", "aaaa", &mut taken), "the end is the end");
        let filled = Template::parse("to ${id} $${id}")
            .expect("a text")
            .fill(&taken);
        assert_eq!(filled.expect("values"), "to 7a ${id}");
    }

    #[test]
    fn what_is_no_placeholder_is_said() {
        for (text, why) in [
            ("${", "begins a placeholder"),
            ("${a b}", "begins a placeholder"),
            ("${a}${b}", "some text"),
            (&"${a} ".repeat(100), "64 placeholders"),
        ] {
            let error = Template::parse(text).expect_err(text).to_string();
            assert!(error.contains(why), "{error}");
        }
        let error = Template::parse("${new}")
            .expect("a text")
            .fill(&TakenValues::new());
        let error = error.expect_err("no value").to_string();
        assert!(error.contains("has no value yet"), "{error}");
    }
}
