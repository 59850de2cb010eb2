use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use cai_benches::{
    GemmaShape,
    steps::{self, Task},
    worker::{Worker, in_turn, median},
};
use clap::Args;
use plotters::prelude::*;

#[derive(Args)]
pub struct GrowthArgs {
    /// The figure.
    #[arg(long, default_value = "docs/figures/growth.svg")]
    out: PathBuf,
    /// Steps of each size, after one to warm up.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// A size that is varied: its name, its values, and the step at one of them.
struct Axis {
    name: &'static str,
    values: [usize; 4],
    at: fn(usize) -> (Task, GemmaShape, usize),
}

const RANK: usize = 16;
const SHAPE: GemmaShape = GemmaShape { batch: 4, layers: 4, ..GemmaShape::MINI };

const AXES: [Axis; 6] = [
    Axis {
        name: "tokens of an example (SFT)",
        values: [128, 256, 512, 1024],
        at: |tokens| (Task::Sft, GemmaShape { tokens, ..SHAPE }, RANK),
    },
    Axis {
        name: "layers (SFT)",
        values: [2, 4, 8, 16],
        at: |layers| (Task::Sft, GemmaShape { layers, ..SHAPE }, RANK),
    },
    Axis {
        name: "vocabulary (SFT)",
        values: [4096, 16_384, 65_536, 131_072],
        at: |vocab_size| (Task::Sft, GemmaShape { vocab_size, ..SHAPE }, RANK),
    },
    Axis { name: "rank (SFT)", values: [4, 16, 64, 128], at: |rank| (Task::Sft, SHAPE, rank) },
    Axis {
        name: "examples of a step (SFT)",
        values: [1, 4, 8, 16],
        at: |batch| (Task::Sft, GemmaShape { batch, ..SHAPE }, RANK),
    },
    Axis {
        name: "vocabulary (log-probabilities)",
        values: [4096, 16_384, 65_536, 131_072],
        at: |vocab_size| (Task::LogProbs, GemmaShape { vocab_size, ..SHAPE }, RANK),
    },
];

/// A point: the value, milliseconds, and MiB beside the weights.
type Point = (f64, f64, f64);

/// Runs the command.
pub fn run(args: GrowthArgs) -> Result<()> {
    println!("| varied | value | ms | peak MiB beside the weights |");
    println!("|---|--:|--:|--:|");
    let mut curves = Vec::new();
    for axis in &AXES {
        let mut points = Vec::new();
        for value in axis.values {
            let (task, shape, rank) = (axis.at)(value);
            let dir = tempfile::tempdir()?;
            steps::write(shape, rank, dir.path())?;
            let mut workers = [Worker::ours(task, dir.path(), "cpu")?];
            let milliseconds = median(&in_turn(&mut workers, args.rounds)?[0]) * 1e3;
            let [worker] = workers;
            let weights = 4 * (shape.layer_weights() + shape.head_weights());
            let peak = (worker.finish()?.steps_bytes as f64 - weights as f64) / (1 << 20) as f64;
            println!("| {} | {value} | {milliseconds:.1} | {peak:.0} |", axis.name);
            points.push((value as f64, milliseconds, peak));
        }
        curves.push((axis.name, points));
    }
    draw(&args.out, &curves).map_err(|error| anyhow!("{}: {error}", args.out.display()))
}

/// Two rows of panels, time above memory, one column for each axis.
fn draw(path: &Path, curves: &[(&str, Vec<Point>)]) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::new(path, (1500, 560)).into_drawing_area();
    root.fill(&WHITE)?;
    let panels = root.split_evenly((2, curves.len()));
    let (times, memories) = panels.split_at(curves.len());
    for ((name, points), (time, memory)) in curves.iter().zip(times.iter().zip(memories)) {
        let milliseconds: Vec<_> = points.iter().map(|&(x, y, _)| (x, y)).collect();
        let mebibytes: Vec<_> = points.iter().map(|&(x, _, y)| (x, y)).collect();
        panel(time, name, "ms", &milliseconds, &BLUE)?;
        panel(memory, "", "MiB beside the weights", &mebibytes, &RED)?;
    }
    Ok(root.present()?)
}

fn panel<B: DrawingBackend>(
    area: &DrawingArea<B, plotters::coord::Shift>,
    title: &str,
    unit: &str,
    points: &[(f64, f64)],
    colour: &RGBColor,
) -> Result<(), Box<dyn std::error::Error>>
where
    B::ErrorType: 'static,
{
    let end = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).fold(0.0, f64::max);
    let (x, y) = (1.05 * end(|p| p.0), 1.15 * end(|p| p.1));
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 15))
        .margin(8)
        .x_label_area_size(26)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..x, 0.0..y)?;
    let whole = |x: &f64| format!("{x:.0}");
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_labels(4)
        .y_labels(5)
        .x_label_formatter(&whole)
        .y_label_formatter(&whole)
        .y_desc(unit)
        .draw()?;
    chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
    chart.draw_series(points.iter().map(|&point| Circle::new(point, 3, colour.filled())))?;
    Ok(())
}
