//! Bars, one for each contestant: medians, and from the least to the most.

use std::path::Path;

use anyhow::{Context, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::statistics::Spread;
use super::{number, slug};
use crate::row::{Figure, Row};

const WIDTH: u32 = 760;
const BAR: u32 = 34;
/// Around the bars: title, scale, name of the scale.
const FRAME: u32 = 110;
const NAMES: u32 = 170;

const OURS: RGBColor = RGBColor(0x1f, 0x6f, 0xb5);
const OTHERS: RGBColor = RGBColor(0x9a, 0xa5, 0xb1);
const INK: RGBColor = RGBColor(0x22, 0x2b, 0x35);

/// The figures of a row, each with the file of its chart.
pub fn files(row: &Row) -> Vec<(&Figure, String)> {
    let file = |figure| match row.figures.len() {
        1 => format!("{}.svg", row.name),
        _ => format!("{}-{}.svg", row.name, slug(figure)),
    };
    row.figures.iter().map(|figure| (figure, file(figure))).collect()
}

/// Draws the chart; nothing when there are no bars.
///
/// # Errors
/// When the file cannot be written.
pub fn draw(
    path: &Path,
    title: &str,
    figure: &Figure,
    bars: &[(&'static str, Spread)],
) -> anyhow::Result<()> {
    if bars.is_empty() {
        return Ok(());
    }
    let mut svg = String::new();
    render(&mut svg, title, figure, bars).map_err(|error| anyhow!("drawing {}: {error}", path.display()))?;
    std::fs::write(path, svg).with_context(|| format!("cannot write {}", path.display()))
}

fn render(
    svg: &mut String,
    title: &str,
    figure: &Figure,
    bars: &[(&'static str, Spread)],
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let root = SVGBackend::with_string(svg, (WIDTH, FRAME + BAR * bars.len() as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    let most = bars.iter().map(|(_, spread)| spread.most).fold(f64::MIN_POSITIVE, f64::max);
    // The first stands at the top.
    let height = bars.len() as f64;
    let middle = |index: usize| height - index as f64 - 0.5;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18, &INK))
        .margin(12)
        .set_label_area_size(LabelAreaPosition::Left, NAMES)
        .set_label_area_size(LabelAreaPosition::Bottom, 44)
        .build_cartesian_2d(0.0..most * 1.15, 0.0..height)?;
    let better = if figure.more_is_better { "more is better" } else { "less is better" };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .max_light_lines(0)
        .disable_y_axis()
        .y_labels(0)
        .x_desc(format!("{}, {} ({better})", figure.name, figure.unit))
        .axis_style(OTHERS)
        .label_style(("sans-serif", 13, &INK))
        .draw()?;
    chart.draw_series(bars.iter().enumerate().map(|(index, (name, spread))| {
        let color = if name.starts_with("vmlan") { OURS } else { OTHERS };
        let (low, high) = (middle(index) - 0.32, middle(index) + 0.32);
        Rectangle::new([(0.0, low), (spread.median, high)], color.filled())
    }))?;
    chart.draw_series(bars.iter().enumerate().map(|(index, (_, spread))| {
        PathElement::new([(spread.least, middle(index)), (spread.most, middle(index))], INK)
    }))?;
    let area = chart.plotting_area();
    for (index, (name, spread)) in bars.iter().enumerate() {
        let (_, y) = area.map_coordinate(&(0.0, middle(index)));
        let (x, _) = area.map_coordinate(&(spread.most, middle(index)));
        let style = |size: i32| ("sans-serif", size).into_font().color(&INK);
        let names = style(14).pos(centred(HPos::Right));
        root.draw(&Text::new(*name, (NAMES as i32, y), names))?;
        let values = style(13).pos(centred(HPos::Left));
        root.draw(&Text::new(number(Some(spread.median)), (x + 6, y), values))?;
    }
    root.present()?;
    drop(chart);
    drop(root);
    Ok(())
}

fn centred(horizontal: HPos) -> Pos {
    Pos::new(horizontal, VPos::Center)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_names_everyone_with_the_median() {
        let spread = |median| Spread { median, least: median / 2.0, most: median * 2.0, count: 3 };
        let mut svg = String::new();

        render(&mut svg, "frames", &Figure::RATE, &[("vmlan", spread(1.5)), ("ovs-tap", spread(0.25))])
            .expect("a chart");

        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
        for text in ["vmlan", "1.50", "ovs-tap", "0.250", "Mpps (more is better)"] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
    }
}
