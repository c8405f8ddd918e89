//! Reports as one HTML page that needs nothing else: plots, tables, light and dark, on a desk, a phone or paper.
//!
//! ```text
//!   values ─► axis ─► plot ─► theme ─► figure ─┐
//!   text, tables (maud) ──────────────────────►┴─► document
//! ```
//!
//! | file | what |
//! |---|---|
//! | `units.rs`    | numbers as people read them |
//! | `axis.rs`     | which values an axis shows, and where |
//! | `plot.rs`     | lines and bars, as SVG by plotters |
//! | `theme.rs`    | colours that follow the reader's theme |
//! | `figure.rs`   | a plot with its caption and its legend |
//! | `document.rs` | the page around it all, with `page.css` |
//!
//! maud escapes every text that gets into the page; plotters those of the plots. There is no script, and nothing is fetched.
//! `vmmc-bench --html` and `vmmc utlb --html` write such pages; `cargo xtask browser FILE` looks at one.

pub mod axis;
pub mod document;
pub mod figure;
pub mod plot;
pub mod theme;
pub mod units;
