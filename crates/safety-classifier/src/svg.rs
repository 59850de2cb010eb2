//! Small figures as SVG text: lines, bars and a confusion matrix.
//!
//! Colours are those of Okabe and Ito, which people with any kind of colour vision tell apart.

use std::fmt::Write;

const COLOURS: [&str; 7] =
    ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#777777"];
const SIDE: f64 = 300.0;
const LEFT: f64 = 56.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 46.0;
/// Height of a line of the legend.
const LINE: f64 = 18.0;

/// A named line through points in the unit square.
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// The points.
    pub points: Vec<(f64, f64)>,
    /// Whether the points are marked.
    pub marked: bool,
}

/// Lines in the unit square with a dashed diagonal if `diagonal`.
pub fn lines(x_label: &str, y_label: &str, lines: &[Line], diagonal: bool) -> String {
    let (width, legend) = (LEFT + SIDE + 16.0, lines.len() as f64 * LINE);
    let height = TOP + SIDE + BOTTOM + legend;
    let x = |value: f64| LEFT + value * SIDE;
    let y = |value: f64| TOP + (1.0 - value) * SIDE;
    let mut svg = open(width, height);
    for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let (right, bottom) = (x(1.0), y(0.0));
        let _ = write!(
            svg,
            "<path d='M{LEFT} {0:.1}H{right} M{1:.1} {TOP}V{bottom}' stroke='#ddd'/>\
             <text x='{2}' y='{3:.1}' text-anchor='end'>{tick}</text>\
             <text x='{1:.1}' y='{4}' text-anchor='middle'>{tick}</text>",
            y(tick),
            x(tick),
            LEFT - 6.0,
            y(tick) + 4.0,
            bottom + 16.0
        );
    }
    let _ = write!(
        svg,
        "<text x='{}' y='{}' text-anchor='middle'>{}</text>\
         <text transform='translate(14 {}) rotate(-90)' text-anchor='middle'>{}</text>",
        x(0.5),
        TOP + SIDE + 36.0,
        escape(x_label),
        y(0.5),
        escape(y_label)
    );
    if diagonal {
        let _ = write!(
            svg,
            "<path d='M{} {}L{} {}' stroke='#999' stroke-dasharray='5 5'/>",
            x(0.0),
            y(0.0),
            x(1.0),
            y(1.0)
        );
    }
    for (i, line) in lines.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let points: Vec<String> =
            line.points.iter().map(|(a, b)| format!("{:.1},{:.1}", x(*a), y(*b))).collect();
        let _ = write!(
            svg,
            "<polyline points='{}' fill='none' stroke='{colour}' stroke-width='2'/>",
            points.join(" ")
        );
        if line.marked {
            for (a, b) in &line.points {
                let _ = write!(
                    svg,
                    "<circle cx='{:.1}' cy='{:.1}' r='4' fill='{colour}'/>",
                    x(*a),
                    y(*b)
                );
            }
        }
        let at = TOP + SIDE + BOTTOM + i as f64 * LINE + 8.0;
        let _ = write!(
            svg,
            "<path d='M{LEFT} {at}h22' stroke='{colour}' stroke-width='3'/>\
             <text x='{}' y='{}'>{}</text>",
            LEFT + 30.0,
            at + 4.0,
            escape(&line.name)
        );
    }
    svg + "</svg>"
}

/// Horizontal bars from 0 to 1 with an optional line at `limit`.
pub fn bars(bars: &[(String, f64)], limit: Option<f64>) -> String {
    let (names, step) = (150.0, 26.0);
    let mut svg = open(names + SIDE + 60.0, bars.len() as f64 * step + 12.0);
    for (i, (name, value)) in bars.iter().enumerate() {
        let top = i as f64 * step + 6.0;
        let length = value.clamp(0.0, 1.0) * SIDE;
        let _ = write!(
            svg,
            "<text x='{}' y='{}' text-anchor='end'>{}</text>\
             <rect x='{names}' y='{top}' width='{length:.1}' height='18' fill='{}'/>\
             <text x='{:.1}' y='{}'>{value:.3}</text>",
            names - 8.0,
            top + 14.0,
            escape(name),
            COLOURS[0],
            names + length + 6.0,
            top + 14.0
        );
    }
    if let Some(limit) = limit {
        let x = names + limit * SIDE;
        let _ = write!(
            svg,
            "<path d='M{x:.1} 0V{}' stroke='#d55e00' stroke-width='2' stroke-dasharray='6 4'/>",
            bars.len() as f64 * step + 8.0
        );
    }
    svg + "</svg>"
}

/// A confusion matrix: true classes down, predicted ones across, shaded by share of the row.
pub fn confusion(labels: &[String], counts: &[Vec<usize>]) -> String {
    let (names, cell) = (150.0, 74.0);
    let side = labels.len() as f64 * cell;
    let mut svg = open(names + side + 8.0, side + 64.0);
    let _ = write!(
        svg,
        "<text x='{}' y='16' text-anchor='middle'>predicted</text>",
        names + side / 2.0
    );
    for (i, row) in counts.iter().enumerate() {
        let total: usize = row.iter().sum();
        let top = 48.0 + i as f64 * cell;
        let name = escape(&labels[i]);
        let _ = write!(
            svg,
            "<text x='{}' y='{}' text-anchor='end'>{name}</text>\
             <text x='{}' y='38' text-anchor='middle' font-size='10'>{name}</text>",
            names - 8.0,
            top + cell / 2.0 + 4.0,
            names + (i as f64 + 0.5) * cell
        );
        for (j, &count) in row.iter().enumerate() {
            let share = count as f64 / total.max(1) as f64;
            let ink = if share > 0.6 { "#fff" } else { "#222" };
            let left = names + j as f64 * cell;
            let _ = write!(
                svg,
                "<rect x='{left}' y='{top}' width='{cell}' height='{cell}' fill='#0072b2' \
                 fill-opacity='{share:.3}' stroke='#ddd'/>\
                 <text x='{0}' y='{1}' text-anchor='middle' fill='{ink}'>{count}</text>\
                 <text x='{0}' y='{2}' text-anchor='middle' fill='{ink}' font-size='10'>{3:.0} %</text>",
                left + cell / 2.0,
                top + cell / 2.0,
                top + cell / 2.0 + 16.0,
                share * 100.0
            );
        }
    }
    svg + "</svg>"
}

fn open(width: f64, height: f64) -> String {
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' \
         font-family='sans-serif' font-size='13' fill='#222'>"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
