//! Drawings of boxes, arrows and labels as SVG.
//!
//! Text stays text, so that it can be searched and read aloud; colours follow the reader's scheme, light or dark, on a
//! ground of their own. Widths of text are estimated, so that a test finds labels that overlap or do not fit.

use std::fmt::Write;

/// Height of a label's letters.
const LARGE: f32 = 15.0;
/// Height of a second line's, and of labels at arrows.
const SMALL: f32 = 12.5;
/// Width of a letter, as a part of its height; a little more than that of the usual fonts.
const LETTER: f32 = 0.59;
/// Distance of lines of text, as a part of their height.
const LEADING: f32 = 1.3;

/// Colours: in light schemes, then in dark ones. Text on each has a contrast of 7 to 1 at least.
const STYLE: &str = "\
.ground{fill:#fff}.ink{fill:#1f2328}.soft{fill:#4b535d}\
.line{stroke:#4b535d;stroke-width:1.6;fill:none}.tip{fill:#4b535d}\
.guest{fill:#dcebff;stroke:#3b6fb5}.own{fill:#dff3e0;stroke:#3a7d44}.host{fill:#fdebd3;stroke:#a8662a}\
.table{fill:#eeeaf8;stroke:#6a56a5}.area{fill:none;stroke:#8a929c;stroke-dasharray:5 4}\
@media (prefers-color-scheme:dark){.ground{fill:#14181f}.ink{fill:#eef1f5}.soft{fill:#c3cad3}\
.line{stroke:#aeb7c2}.tip{fill:#aeb7c2}\
.guest{fill:#17304f;stroke:#6ea3e8}.own{fill:#16371c;stroke:#6cb878}.host{fill:#43290d;stroke:#dd9a56}\
.table{fill:#2c2350;stroke:#a08ee0}.area{stroke:#6f7883}}";

/// The kind of thing that a box is, which gives it its colour.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A guest, or a program at a port.
    Guest,
    /// A part of vmlan.
    Own,
    /// The host's kernel, its interfaces, the world.
    Host,
    /// Something that is remembered.
    Table,
    /// A border around others.
    Area,
}

/// A rectangle: left, top, width, height.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Area(f32, f32, f32, f32);

impl Area {
    fn overlaps(self, other: Self) -> bool {
        self.0 < other.0 + other.2
            && other.0 < self.0 + self.2
            && self.1 < other.1 + other.3
            && other.1 < self.1 + self.3
    }

    fn holds(self, other: Self) -> bool {
        self.0 <= other.0
            && self.1 <= other.1
            && other.0 + other.2 <= self.0 + self.2
            && other.1 + other.3 <= self.1 + self.3
    }
}

/// A picture while it is drawn.
#[derive(Debug)]
pub struct Picture {
    width: f32,
    height: f32,
    title: String,
    description: String,
    body: String,
    texts: Vec<(Area, String)>,
    boxes: Vec<Area>,
    lines: Vec<(f32, f32, f32, f32)>,
}

impl Picture {
    /// An empty picture; `description` says in words what it shows.
    pub fn new(width: f32, height: f32, title: &str, description: &str) -> Self {
        Self {
            width,
            height,
            title: title.to_owned(),
            description: description.to_owned(),
            body: String::new(),
            texts: Vec::new(),
            boxes: Vec::new(),
            lines: Vec::new(),
        }
    }

    /// Draws a box with lines of text in its middle, the first one large.
    pub fn boxed(&mut self, kind: Kind, place: (f32, f32, f32, f32), lines: &[&str]) {
        let (x, y, width, height) = place;
        let class = match kind {
            Kind::Guest => "guest",
            Kind::Own => "own",
            Kind::Host => "host",
            Kind::Table => "table",
            Kind::Area => "area",
        };
        let _ = writeln!(
            self.body,
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"7\" \
             stroke-width=\"1.6\"/>"
        );
        if matches!(kind, Kind::Area) {
            let (right, bottom) = (x + width, y + height);
            self.lines.extend([
                (x, y, right, y),
                (x, bottom, right, bottom),
                (x, y, x, bottom),
                (right, y, right, bottom),
            ]);
            // What is in it has its middle.
            if let Some(line) = lines.first() {
                self.text(x + 12.0, y + LARGE + 7.0, line, SMALL, "start");
            }
            return;
        }
        self.boxes.push(Area(x, y, width, height));
        let size = |index: usize| if index == 0 { LARGE } else { SMALL };
        let total: f32 = (0..lines.len()).map(|index| size(index) * LEADING).sum();
        let mut top = y + (height - total) / 2.0;
        for (index, line) in lines.iter().enumerate() {
            // Letters stand on a line a little above the end of their room.
            self.text(x + width / 2.0, top + size(index) * 1.02, line, size(index), "middle");
            top += size(index) * LEADING;
        }
    }

    /// Draws an arrow along points, with its head at the last.
    pub fn arrow(&mut self, points: &[(f32, f32)]) {
        self.line(points);
        if let [.., from, to] = points {
            self.head(*from, *to);
        }
    }

    /// Draws an arrow with heads at both ends.
    pub fn both(&mut self, points: &[(f32, f32)]) {
        self.arrow(points);
        if let [from, to, ..] = points {
            self.head(*to, *from);
        }
    }

    fn line(&mut self, points: &[(f32, f32)]) {
        let list: Vec<_> = points.iter().map(|(x, y)| format!("{x},{y}")).collect();
        let _ = writeln!(self.body, "<polyline class=\"line\" points=\"{}\"/>", list.join(" "));
        self.lines.extend(points.windows(2).map(|pair| (pair[0].0, pair[0].1, pair[1].0, pair[1].1)));
    }

    fn head(&mut self, from: (f32, f32), to: (f32, f32)) {
        let (x, y) = (to.0 - from.0, to.1 - from.1);
        let length = x.hypot(y).max(1.0);
        let (x, y) = (x / length, y / length);
        let corner = |side: f32| {
            format!("{:.1},{:.1}", to.0 - 9.0 * x + side * 4.5 * y, to.1 - 9.0 * y - side * 4.5 * x)
        };
        let tip = format!("{},{}", to.0, to.1);
        let _ =
            writeln!(self.body, "<polygon class=\"tip\" points=\"{tip} {} {}\"/>", corner(1.0), corner(-1.0));
    }

    /// Writes a small label that begins at a place.
    pub fn label(&mut self, x: f32, y: f32, text: &str) {
        self.text(x, y, text, SMALL, "start");
    }

    /// Writes a small label around a place.
    pub fn centred(&mut self, x: f32, y: f32, text: &str) {
        self.text(x, y, text, SMALL, "middle");
    }

    fn text(&mut self, x: f32, y: f32, text: &str, size: f32, anchor: &str) {
        let width = text.chars().count() as f32 * size * LETTER;
        let left = if anchor == "middle" { x - width / 2.0 } else { x };
        self.texts.push((Area(left, y - size * 0.8, width, size), text.to_owned()));
        let class = if size == LARGE { "ink" } else { "soft" };
        let _ = writeln!(
            self.body,
            "<text class=\"{class}\" x=\"{x}\" y=\"{y:.1}\" font-size=\"{size}\" text-anchor=\"{anchor}\">{}</text>",
            escaped(text)
        );
    }

    /// The picture as SVG.
    pub fn svg(&self) -> String {
        let Self { width, height, title, description, body, .. } = self;
        let (title, description) = (escaped(title), escaped(description));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" \
             role=\"img\" aria-labelledby=\"t d\" font-family=\"system-ui, 'Liberation Sans', Arial, sans-serif\">\n\
             <title id=\"t\">{title}</title>\n<desc id=\"d\">{description}</desc>\n<style>{STYLE}</style>\n\
             <rect class=\"ground\" width=\"{width}\" height=\"{height}\" rx=\"10\"/>\n{body}</svg>\n"
        )
    }

    /// Labels that cannot be read: that overlap, leave the picture or their box, or have a line through them.
    pub fn faults(&self) -> Vec<String> {
        let whole = Area(4.0, 4.0, self.width - 8.0, self.height - 8.0);
        let mut faults = Vec::new();
        for (index, (area, text)) in self.texts.iter().enumerate() {
            if !whole.holds(*area) {
                faults.push(format!("`{text}` leaves the picture"));
            }
            if self.boxes.iter().any(|other| other.overlaps(*area) && !other.holds(*area)) {
                faults.push(format!("`{text}` does not fit its box"));
            }
            let others = self.texts.iter().skip(index + 1).filter(|(other, _)| other.overlaps(*area));
            faults.extend(others.map(|(_, other)| format!("`{text}` overlaps `{other}`")));
            if self.lines.iter().any(|line| crosses(*line, *area)) {
                faults.push(format!("a line runs through `{text}`"));
            }
        }
        for (index, area) in self.boxes.iter().enumerate() {
            if self.boxes.iter().skip(index + 1).any(|other| other.overlaps(*area)) {
                faults.push(format!("the box at {area:?} overlaps another"));
            }
        }
        faults
    }
}

/// True if a line comes into an area, looked for in steps of less than a letter.
fn crosses((x1, y1, x2, y2): (f32, f32, f32, f32), area: Area) -> bool {
    let steps = ((x2 - x1).hypot(y2 - y1) / 3.0).ceil() as usize;
    (0..=steps).any(|step| {
        let part = step as f32 / steps.max(1) as f32;
        area.overlaps(Area(x1 + (x2 - x1) * part, y1 + (y2 - y1) * part, 0.1, 0.1))
    })
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_its_words_as_text() {
        let mut picture = Picture::new(200.0, 100.0, "A & B", "Two things.");
        picture.boxed(Kind::Own, (10.0, 10.0, 80.0, 40.0), &["a < b", "c"]);
        picture.arrow(&[(90.0, 30.0), (150.0, 30.0)]);

        let svg = picture.svg();

        for part in
            ["<title id=\"t\">A &amp; B</title>", "<desc id=\"d\">Two things.</desc>", ">a &lt; b</text>"]
        {
            assert!(svg.contains(part), "{part}");
        }
        assert_eq!(picture.faults(), [""; 0]);
    }

    #[test]
    fn labels_that_cannot_be_read_are_found() {
        let mut picture = Picture::new(200.0, 100.0, "", "");
        picture.boxed(Kind::Own, (10.0, 10.0, 40.0, 40.0), &["too long for it"]);
        picture.label(100.0, 80.0, "one");
        picture.label(105.0, 82.0, "two");
        picture.label(190.0, 20.0, "outside");
        picture.label(100.0, 30.0, "struck");
        picture.arrow(&[(60.0, 26.0), (160.0, 26.0)]);

        let faults = picture.faults().join("\n");

        for fault in [
            "`too long for it` does not fit its box",
            "`one` overlaps `two`",
            "`outside` leaves the picture",
            "a line runs through `struck`",
        ] {
            assert!(faults.contains(fault), "{fault}\n{faults}");
        }
    }
}
