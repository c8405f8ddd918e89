//! Drawing: lines over two axes, and bars, as SVG by plotters in the placeholder colours of `theme.rs`.
//!
//! plotters makes the grid, the axes and their texts, and maps values to places. Lines, marks and bars are drawn in places, so
//! that a legend's sample is drawn by the same code as the line that it stands for.

use std::io;

use maud::html;
use plotters::coord::Shift;
use plotters::element::Polygon;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::axis::Axis;
use crate::theme::{Role, themed};

/// Why a plot could not be drawn. Into a string it always can, but plotters' interface is that of all its targets.
pub type PlotError = DrawingAreaErrorKind<io::Error>;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// plotters draws at whole numbers. With four of them to each of the page's points a curve is smooth.
const UNIT: i32 = 4;

const WIDTH: i32 = 560;
const HEIGHT: i32 = 340;

/// Height of a text, in the page's points.
const TEXT: i32 = 13;

/// A line through its points, and the marks on it.
#[derive(Clone, Debug)]
pub struct Line {
    /// Chooses its colour and the form of its marks.
    pub slot: usize,
    /// Where it goes, from point to point, in the axes' values.
    pub points: Vec<(f64, f64)>,
    /// Points that are marked, with what is said of each when the reader points at it.
    pub marks: Vec<(f64, f64, String)>,
}

/// Lines over two axes.
#[derive(Clone, Debug)]
pub struct Lines {
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The lines.
    pub lines: Vec<Line>,
}

impl Lines {
    /// The plot; `label` is what a screen reader says of it.
    ///
    /// # Errors
    /// What plotters can't draw. There is nothing that it can't draw into a string.
    pub fn svg(&self, label: &str) -> Result<String, PlotError> {
        let mut hints = String::new();
        let svg = draw(WIDTH, HEIGHT, |root| {
            let mut chart = ChartBuilder::on(root)
                .margin_top(28 * UNIT)
                .margin_right(24 * UNIT)
                .x_label_area_size(46 * UNIT)
                .y_label_area_size(62 * UNIT)
                .build_cartesian_2d(self.x.clone(), self.y.clone())?;
            chart
                .configure_mesh()
                .x_labels(50)
                .y_labels(50)
                .label_style(text(Role::Text))
                .axis_style(Role::Muted.placeholder().stroke_width(UNIT as u32))
                .bold_line_style(Role::Grid.placeholder().stroke_width(UNIT as u32))
                .light_line_style(TRANSPARENT)
                .set_all_tick_mark_size(4 * UNIT)
                .x_desc(&self.x.title)
                .axis_desc_style(text(Role::Muted))
                .draw()?;
            let above = text(Role::Muted).pos(Pos::new(HPos::Left, VPos::Bottom));
            root.draw(&Text::new(self.y.title.clone(), at(4, 17), above))?;
            let place = |x, y| chart.plotting_area().map_coordinate(&(x, y));
            // The main one last, so that no other line covers it.
            let mut lines: Vec<&Line> = self.lines.iter().collect();
            lines.sort_by_key(|line| line.slot == 1);
            for line in lines {
                let shown = |x, y| self.x.shows(x) && self.y.shows(y);
                let points = line.points.iter().filter(|p| shown(p.0, p.1)).map(|p| place(p.0, p.1)).collect();
                path(root, points, line.slot)?;
                for (x, y, hint) in line.marks.iter().filter(|mark| shown(mark.0, mark.1)) {
                    let (x, y) = place(*x, *y);
                    mark(root, (x, y), line.slot)?;
                    let hint = html! { circle .hint cx=(x) cy=(y) r=(10 * UNIT) { title { (hint) } } };
                    hints += &hint.into_string();
                }
            }
            Ok(())
        })?;
        Ok(themed(&svg, label, &hints))
    }
}

/// A horizontal bar and what is written beside it.
#[derive(Clone, Debug)]
pub struct Bar {
    /// Chooses its colour.
    pub slot: usize,
    /// Before the bar.
    pub name: String,
    /// How long it is.
    pub value: f64,
    /// Behind it.
    pub text: String,
}

/// Bars that begin at zero, in groups with a heading each.
#[derive(Clone, Debug)]
pub struct Bars {
    /// The value whose bar is as long as there is room for.
    pub most: f64,
    /// Heading and bars of each group.
    pub groups: Vec<(String, Vec<Bar>)>,
}

impl Bars {
    /// The plot; `label` is what a screen reader says of it.
    ///
    /// # Errors
    /// What plotters can't draw. There is nothing that it can't draw into a string.
    pub fn svg(&self, label: &str) -> Result<String, PlotError> {
        const ROW: i32 = 28;
        const HEADING: i32 = 30;
        // Room for names, and for texts behind the longest bar.
        const LEFT: i32 = 150;
        const RIGHT: i32 = 130;
        let height = self.groups.iter().map(|(_, bars)| HEADING + ROW * bars.len() as i32).sum::<i32>() + 8;
        let svg = draw(WIDTH, height, |root| {
            let mut y = 0;
            for (heading, bars) in &self.groups {
                root.draw(&Text::new(heading.clone(), at(4, y + 15), anchored(Role::Muted, HPos::Left)))?;
                y += HEADING;
                let zero = [at(LEFT, y), at(LEFT, y + ROW * bars.len() as i32)];
                root.draw(&PathElement::new(zero, Role::Muted.placeholder().stroke_width(UNIT as u32)))?;
                for Bar { slot, name, value, text } in bars {
                    let share = value / self.most;
                    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
                    let end = LEFT * UNIT + (share * f64::from((WIDTH - LEFT - RIGHT) * UNIT)) as i32;
                    // Something can be seen of the smallest, too.
                    let corners = [at(LEFT, y + 4), (end.max((LEFT + 1) * UNIT), (y + ROW - 4) * UNIT)];
                    root.draw(&Rectangle::new(corners, Role::Series(*slot).placeholder().filled()))?;
                    let middle = y + ROW / 2;
                    root.draw(&Text::new(name.clone(), at(LEFT - 8, middle), anchored(Role::Text, HPos::Right)))?;
                    let behind = (end + 8 * UNIT, middle * UNIT);
                    root.draw(&Text::new(text.clone(), behind, anchored(Role::Text, HPos::Left)))?;
                    y += ROW;
                }
            }
            Ok(())
        })?;
        Ok(themed(&svg, label, ""))
    }
}

/// The sample of a line that stands in a legend.
pub(crate) fn sample(slot: usize) -> Result<String, PlotError> {
    let svg = draw(34, 16, |root| {
        path(root, vec![at(1, 8), at(33, 8)], slot)?;
        mark(root, at(17, 8), slot)
    })?;
    let svg = themed(&svg, "", "");
    // Its name stands beside it.
    Ok(svg.replacen("role=\"img\" aria-label=\"\"", "class=\"sample\" aria-hidden=\"true\"", 1))
}

/// What `plot` draws on an area of this size.
fn draw(width: i32, height: i32, plot: impl FnOnce(&Area) -> Result<(), PlotError>) -> Result<String, PlotError> {
    let mut svg = String::new();
    {
        let size = ((width * UNIT) as u32, (height * UNIT) as u32);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        plot(&root)?;
        root.present()?;
    }
    Ok(svg)
}

fn at(x: i32, y: i32) -> (i32, i32) {
    (x * UNIT, y * UNIT)
}

/// A text's style. plotters makes a text smaller than it is told to by 1.24.
fn text(role: Role) -> TextStyle<'static> {
    ("sans-serif", f64::from(TEXT * UNIT) * 1.24).into_font().color(&role.placeholder())
}

/// The style of a text beside a place, in the middle of its height.
fn anchored(role: Role, side: HPos) -> TextStyle<'static> {
    text(role).pos(Pos::new(side, VPos::Center))
}

fn path(root: &Area, points: Vec<(i32, i32)>, slot: usize) -> Result<(), PlotError> {
    if points.len() < 2 {
        return Ok(());
    }
    // The main one is what the reader came for.
    let width = if slot == 1 { 3 * UNIT } else { 2 * UNIT };
    root.draw(&PathElement::new(points, Role::Series(slot).placeholder().stroke_width(width as u32)))
}

/// A circle for the main series, a small one for the reference; for the others a square, a triangle, a rhombus or a triangle on its head.
fn mark(root: &Area, (x, y): (i32, i32), slot: usize) -> Result<(), PlotError> {
    let style = Role::Series(slot).placeholder().filled();
    let polygon = |corners: &[(i32, i32)]| {
        let corners: Vec<_> = corners.iter().map(|(dx, dy)| (x + dx * UNIT, y + dy * UNIT)).collect();
        root.draw(&Polygon::new(corners, style))
    };
    match if slot < 2 { slot } else { 2 + (slot - 2) % 4 } {
        0 => root.draw(&Circle::new((x, y), 3 * UNIT, style)),
        1 => root.draw(&Circle::new((x, y), 4 * UNIT, style)),
        2 => polygon(&[(-3, -3), (3, -3), (3, 3), (-3, 3)]),
        3 => polygon(&[(-4, 3), (0, -4), (4, 3)]),
        4 => polygon(&[(-4, 0), (0, -4), (4, 0), (0, 4)]),
        _ => polygon(&[(-4, -3), (0, 4), (4, -3)]),
    }
}
