//! The page around what is reported: its head, its style, and a policy that lets nothing else in.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::theme::variables;

/// A page.
pub struct Document {
    /// Its heading.
    pub heading: &'static str,
    /// The command that wrote it: stands in the browser's title and below the heading.
    pub command: String,
    /// Links to the sections, as (id, name). None are shown where there is only one.
    pub sections: Vec<(String, String)>,
    /// All that is below.
    pub main: Markup,
}

impl Document {
    /// The whole page.
    pub fn html(&self) -> String {
        let colours =
            format!(":root{{{}}}@media(prefers-color-scheme:dark){{:root{{{}}}}}", variables(false), variables(true));
        let markup = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    // Whatever should get into the page: the browser runs no script and fetches nothing.
                    meta http-equiv="Content-Security-Policy"
                        content="default-src 'none'; style-src 'unsafe-inline'; img-src data:";
                    meta name="color-scheme" content="light dark";
                    // So that the browser asks nobody for one.
                    link rel="icon" href="data:,";
                    title { (self.command) }
                    style { (PreEscaped(include_str!("page.css"))) (PreEscaped(colours)) }
                }
                body {
                    header {
                        h1 { (self.heading) }
                        p .command { code { (self.command) } }
                        @if self.sections.len() > 1 {
                            nav { @for (id, name) in &self.sections { a href={ "#" (id) } { (name) } } }
                        }
                    }
                    main { (self.main) }
                }
            }
        };
        markup.into_string()
    }
}

/// A fact: what it is about, and what is so.
pub type Fact = (&'static str, String);

/// The list of facts at the head of a page, which a screen reader calls `label`.
pub fn facts(label: &str, facts: &[Fact]) -> Markup {
    html! {
        section .facts aria-label=(label) {
            dl { @for (key, value) in facts { dt { (key) } dd { (value) } } }
        }
    }
}

/// The command line of this process.
pub fn command_line() -> String {
    let mut words = std::env::args().map(|word| if word.contains(' ') { format!("'{word}'") } else { word });
    let program = words.next().unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or_default().to_owned();
    [name].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use scraper::{Html, Selector};

    use super::*;

    fn texts(page: &Html, selector: &str) -> Vec<String> {
        page.select(&Selector::parse(selector).unwrap()).map(|element| element.text().collect()).collect()
    }

    #[test]
    fn a_page_is_whole_escaped_and_fetches_nothing() {
        let section = |id: &str| (id.to_owned(), id.to_uppercase());
        let main = facts("What was run", &[("Key", "<b>&".to_owned())]);
        let command = "vmmc '<script>'".to_owned();
        let mut document = Document { heading: "Heading", command, sections: vec![section("a"), section("b")], main };
        let page = document.html();
        for absent in ["http:", "https:", "<script", "src=", "@import", "url("] {
            assert!(!page.contains(absent), "{absent} in the page");
        }
        let html = Html::parse_document(&page);
        assert!(html.errors.is_empty(), "{:?}", html.errors);
        assert_eq!(texts(&html, "title"), ["vmmc '<script>'"]);
        assert_eq!((texts(&html, "h1"), texts(&html, "dd")), (vec!["Heading".into()], vec!["<b>&".into()]));
        assert_eq!(texts(&html, "nav a"), ["A", "B"]);
        document.sections.pop();
        assert!(texts(&Html::parse_document(&document.html()), "nav").is_empty());
    }
}
