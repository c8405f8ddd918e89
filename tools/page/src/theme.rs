//! Colours: what has which, and how a plot's follow the reader's theme.
//!
//! plotters writes fixed colours into its SVG. So plots are drawn in placeholders, one for each role, and `themed` puts a
//! CSS variable in the place of each. The variables have one value for light and one for dark pages.

use std::fmt::Write;

use plotters::style::RGBColor;

/// What a colour stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Numbers and names.
    Text,
    /// Axes, and what is said of them.
    Muted,
    /// The grid.
    Grid,
    /// What has this [slot](Series::slot).
    Series(usize),
}

/// Light and dark colour of each slot: grey for the reference, then Okabe and Ito's palette, which colour-blind people can tell
/// apart, made darker on white and lighter on black where the contrast was below 3 to 1.
const PALETTE: [(&str, &str); 9] = [
    ("#6b7280", "#9aa3b2"),
    ("#0072b2", "#4aa8f0"),
    ("#d55e00", "#ff8345"),
    ("#009e73", "#2bc79a"),
    ("#a8518a", "#e79bc8"),
    ("#b87f00", "#f0b429"),
    ("#15181d", "#f4f6f9"),
    ("#2f8fc9", "#9ad9ff"),
    ("#7d7300", "#dcd042"),
];

/// Which of the palette's colours a slot has. When there are more series than colours, grey and the main one's blue stay
/// unshared; the others differ by their marks.
fn colour(slot: usize) -> usize {
    if slot < PALETTE.len() { slot } else { 2 + (slot - 2) % (PALETTE.len() - 2) }
}

impl Role {
    const OTHERS: [(Role, &str); 3] = [(Role::Text, "--text"), (Role::Muted, "--muted"), (Role::Grid, "--grid")];

    fn all() -> impl Iterator<Item = (Role, String)> {
        let others = Role::OTHERS.map(|(role, name)| (role, name.to_owned()));
        others.into_iter().chain((0..PALETTE.len()).map(|slot| (Role::Series(slot), format!("--series-{slot}"))))
    }

    /// The colour to draw in.
    pub(crate) fn placeholder(self) -> RGBColor {
        match self {
            Role::Text => RGBColor(0xf0, 0x0d, 0x00),
            Role::Muted => RGBColor(0xf0, 0x0d, 0x01),
            Role::Grid => RGBColor(0xf0, 0x0d, 0x02),
            Role::Series(slot) => RGBColor(0xf0, 0x0d, 0x10 + colour(slot) as u8),
        }
    }
}

/// The style sheet's definitions of the series' colours, of the light ones or the dark ones.
pub(crate) fn variables(dark: bool) -> String {
    let mut css = String::new();
    for (slot, (on_white, on_black)) in PALETTE.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(css, "--series-{slot}:{};", if dark { on_black } else { on_white });
    }
    css
}

/// The plot `svg`, as drawn by plotters in placeholders, for use inside a page: its colours follow the page's, its size the room
/// there is, its font is the page's, and `label` is what a screen reader says of it. `inside` is added at the end.
pub(crate) fn themed(svg: &str, label: &str, inside: &str) -> String {
    let (open, rest) = svg.split_once('>').unwrap_or(("", svg));
    let view = open.split_once("viewBox=\"").and_then(|(_, view)| view.split_once('"')).map_or("0 0 1 1", |v| v.0);
    let body = rest.trim_end().strip_suffix("</svg>").unwrap_or(rest);
    let mut body = body.replace(" font-family=\"sans-serif\"", "").replace(" opacity=\"1\"", "");
    for (role, name) in Role::all() {
        let RGBColor(red, green, blue) = role.placeholder();
        body = body.replace(&format!("\"#{red:02X}{green:02X}{blue:02X}\""), &format!("\"var({name})\""));
    }
    let label = maud::html! { (label) }.into_string();
    format!("<svg role=\"img\" aria-label=\"{label}\" viewBox=\"{view}\">{body}{inside}</svg>")
}

/// Everything that a page compares, in the order of its legends.
pub struct Series {
    names: Vec<&'static str>,
    reference: &'static str,
    main: &'static str,
}

impl Series {
    /// What is in `names`, each once. `reference` is what nothing can be better than: it is grey, and dashed. `main` is what the
    /// reader came for: it is blue, thick, and never covered.
    pub fn new(names: impl Iterator<Item = &'static str>, reference: &'static str, main: &'static str) -> Series {
        Series { names: distinct(names), reference, main }
    }

    /// Their names.
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// The number that chooses the colour and the mark of one. 0 is the reference's and 1 the main one's, whatever else there is.
    pub fn slot(&self, name: &str) -> usize {
        if name == self.reference {
            return 0;
        }
        if name == self.main {
            return 1;
        }
        let others = self.names.iter().filter(|n| ![self.reference, self.main].contains(n));
        2 + others.take_while(|n| **n != name).count()
    }

    /// The style sheet's name for the colour of one.
    pub fn colour(&self, name: &str) -> String {
        format!("var(--series-{})", colour(self.slot(name)))
    }
}

/// Each value once, in the order of their first appearance.
pub fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = Vec::new();
    for value in values {
        if !seen.contains(&value) {
            seen.push(value);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use plotters::prelude::*;

    use super::*;

    #[test]
    fn every_placeholder_becomes_a_variable() {
        let mut svg = String::new();
        let root = SVGBackend::with_string(&mut svg, (80, 40)).into_drawing_area();
        for (role, _) in Role::all() {
            root.draw(&Circle::new((9, 9), 2, role.placeholder().filled())).unwrap();
            root.draw(&PathElement::new(vec![(0, 0), (9, 9)], role.placeholder())).unwrap();
        }
        let style = ("sans-serif", 12).into_font().color(&Role::Text.placeholder());
        root.draw(&Text::new("a<b", (1, 1), style)).unwrap();
        drop(root);
        let page = themed(&svg, "\"x\" & <y>", "<g></g>");
        assert!(
            page.starts_with("<svg role=\"img\" aria-label=\"&quot;x&quot; &amp; &lt;y&gt;\" viewBox=\"0 0 80 40\">")
        );
        assert!(page.ends_with("<g></g></svg>"));
        for (_, name) in Role::all() {
            assert!(page.contains(&format!("fill=\"var({name})\"")), "{name} in {page}");
            assert!(page.contains(&format!("stroke=\"var({name})\"")), "{name} in {page}");
        }
        for absent in ["\"#", "http", "sans-serif", "width=\"80\""] {
            assert!(!page.contains(absent), "{absent} in {page}");
        }
        assert!(page.contains("a&lt;b"));
    }

    #[test]
    fn placeholders_differ_and_all_are_defined_twice() {
        let mut seen: Vec<_> = Role::all().map(|(role, _)| role.placeholder()).map(|c| (c.0, c.1, c.2)).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), Role::all().count());
        for slot in 0..PALETTE.len() {
            let name = format!("--series-{slot}:#");
            assert!(variables(false).contains(&name) && variables(true).contains(&name));
        }
    }

    #[test]
    fn each_keeps_its_colour_and_shares_it_with_nothing() {
        let series = Series::new(["tcp", "floor", "ucx", "vmmc", "tcp"].into_iter(), "floor", "vmmc");
        assert_eq!(series.names(), ["tcp", "floor", "ucx", "vmmc"]);
        assert_eq!(["floor", "vmmc", "tcp", "ucx"].map(|name| series.slot(name)), [0, 1, 2, 3]);
        assert_eq!(series.colour("ucx"), "var(--series-3)");
        assert_eq!(Series::new(["a"; 20].into_iter(), "", "").slot("a"), 2);
    }
}
