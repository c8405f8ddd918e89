//! A figure of a page: a plot with its caption and its legend.

use maud::{Markup, PreEscaped, html};

use crate::plot::{Bars, Lines, PlotError, sample};
use crate::theme::Series;

/// A plot with its caption and its legend.
pub struct Figure {
    /// What it shows.
    pub caption: String,
    /// Those of the page's series that are in it.
    pub series: Vec<&'static str>,
    /// The plot.
    pub drawing: Drawing,
}

/// The plot itself.
pub enum Drawing {
    /// Lines over two axes.
    Lines(Lines),
    /// Bars that begin at zero.
    Bars(Bars),
}

impl Figure {
    /// The figure for a page that compares `all`.
    ///
    /// # Errors
    /// What plotters can't draw. There is nothing that it can't draw into a string.
    pub fn html(&self, all: &Series) -> Result<Markup, PlotError> {
        let label = format!("{}: {}", self.caption, self.series.join(", "));
        let (svg, legend) = match &self.drawing {
            Drawing::Lines(lines) => (lines.svg(&label)?, true),
            // Each has its name beside it.
            Drawing::Bars(bars) => (bars.svg(&label)?, false),
        };
        let mut samples = Vec::new();
        for name in self.series.iter().filter(|_| legend) {
            samples.push((name, sample(all.slot(name))?));
        }
        Ok(html! {
            figure {
                figcaption { (self.caption) }
                @if legend {
                    ul .legend {
                        @for (name, sample) in samples {
                            li { (PreEscaped(sample)) (name) }
                        }
                    }
                }
                (PreEscaped(svg))
            }
        })
    }
}
