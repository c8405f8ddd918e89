//! Content negotiation: which of the formats that there are a client would rather have, by what its Accept fields say (RFC 9110, section 12.5.1).
//!
//! ```text
//!   Accept: application/openmetrics-text;version=1.0.0;q=0.5, text/plain;version=0.0.4;q=0.3, */*;q=0.1
//!           `------ media range ------' `-parameter-' `weight'
//! ```
//!
//! The most specific range that a format is in says how much it is wanted: 0 is not at all. Of parameters only the version counts, and only if a range has one: what else clients
//! ask for (`charset`, `escaping`) makes no difference here. Elements that can't be read say nothing.

/// A format that there is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Format {
    /// The type, and what stands behind the slash.
    pub media: (&'static str, &'static str),
    /// Its version.
    pub version: &'static str,
}

/// How much a format is wanted. More is greater, and so is what is named rather than among others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wish {
    /// 0 to 1000.
    pub weight: u16,
    /// How specific the range is that says so: 0 for any type, 1 for a type, 2 for type and subtype, 3 for the version, too.
    pub specific: u8,
}

impl Format {
    /// How much it is wanted by who sends these fields.
    pub(super) fn wish<'a>(&self, fields: impl Iterator<Item = &'a str>) -> Wish {
        let ranges = fields.flat_map(|field| split(field, ',')).filter_map(|range| self.read(range));
        ranges.max_by_key(|wish| (wish.specific, wish.weight)).unwrap_or_default()
    }

    /// What one element says; `None` if it can't be read, or it isn't about this.
    fn read(&self, element: &str) -> Option<Wish> {
        let mut parts = split(element, ';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let is = |name: &str, own: &str| name.eq_ignore_ascii_case(own);
        let mut specific = match (kind, subtype) {
            ("*", "*") => 0,
            (kind, "*") if is(kind, self.media.0) => 1,
            (kind, subtype) if is(kind, self.media.0) && is(subtype, self.media.1) => 2,
            _ => return None,
        };
        let mut weight = 1000;
        for parameter in parts.filter(|part| !part.is_empty()) {
            let (name, value) = parameter.split_once('=')?;
            if is(name, "q") {
                weight = thousandths(value)?;
            } else if is(name, "version") {
                if value.trim_matches('"') != self.version {
                    return None;
                }
                specific = 3;
            }
        }
        Some(Wish { weight, specific })
    }
}

/// Cuts text at a character, but not within quotes.
fn split(text: &str, at: char) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |c| {
        if is_escaped {
            is_escaped = false;
        } else if c == '"' {
            is_quoted = !is_quoted;
        } else {
            is_escaped = is_quoted && c == '\\';
        }
        c == at && !is_quoted
    })
}

/// A weight: 0 to 1, with three decimals at the most.
fn thousandths(weight: &str) -> Option<u16> {
    let (whole, decimals) = weight.split_once('.').unwrap_or((weight, ""));
    if !matches!(whole, "0" | "1") || decimals.len() > 3 || !decimals.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    format!("{whole}{decimals:0<3}").parse().ok().filter(|&weight| weight <= 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: Format = Format { media: ("text", "plain"), version: "0.0.4" };

    fn wish(fields: &[&str]) -> (u16, u8) {
        let Wish { weight, specific } = FORMAT.wish(fields.iter().copied());
        (weight, specific)
    }

    #[test]
    fn the_most_specific_range_says_how_much() {
        for (field, weight, specific) in [
            ("*/*", 1000, 0),
            ("text/*;q=0.5", 500, 1),
            ("text/plain", 1000, 2),
            ("text/plain; version=0.0.4; charset=utf-8", 1000, 3),
            ("TEXT/Plain;Q=0.25;Version=\"0.0.4\"", 250, 3),
            ("text/plain;q=0, text/*;q=0.5, */*;q=1", 0, 2),
            ("*/*;q=1,text/*;q=0", 0, 1),
            ("text/plain;version=0.0.4;q=0.3,text/plain;q=0.9", 300, 3),
            // Of another version, or another type.
            ("text/plain;version=1.0.0, */*;q=0.2", 200, 0),
            ("text/html, application/*", 0, 0),
            ("", 0, 0),
        ] {
            assert_eq!(wish(&[field]), (weight, specific), "{field}");
        }
        assert_eq!(wish(&["text/html", "*/*;q=0.1", "text/plain;q=0.7"]), (700, 2));
        assert_eq!(wish(&[]), (0, 0));
    }

    #[test]
    fn weights_have_three_decimals_at_the_most() {
        let weights = [("0", 0), ("0.", 0), ("0.001", 1), ("0.5", 500), ("0.999", 999), ("1", 1000), ("1.000", 1000)];
        for (text, weight) in weights {
            assert_eq!(thousandths(text), Some(weight), "{text}");
        }
        for text in ["", ".5", "1.001", "2", "-1", "0.0001", "0.5x", "00", "+1", "0.٣"] {
            assert_eq!(thousandths(text), None, "{text}");
            assert_eq!(wish(&[&format!("text/plain;q={text}, */*;q=0.125")]), (125, 0), "{text}");
        }
    }

    #[test]
    fn what_is_quoted_is_not_cut() {
        assert_eq!(wish(&[r#"text/plain;a="b;q=0,text/plain";q=0.5"#]), (500, 2));
        assert_eq!(wish(&[r#"text/plain;a="\",\\";q=0.5"#]), (500, 2));
        assert_eq!(wish(&[r#"text/plain;a="open,text/plain;q=1"#]), (1000, 2));
        assert_eq!(wish(&["text/plain ; q=0.5 ,,; ;, text/plain;;q=0.25"]), (500, 2));
        for nonsense in ["text", "/", "text/plain;q", "text/plain;=", "\"", "\\", "*/plain", ";q=1", "*"] {
            assert_eq!(
                FORMAT.wish([nonsense].into_iter()).weight,
                u16::from(nonsense.ends_with("=")) * 1000,
                "{nonsense}"
            );
        }
    }
}
