//! Growth of a listing's time with the size of the table, for both programs: figures and a plot.

use crate::{
    measure::{self, Sink},
    report,
};
use flowgate_test_support::{Limit, Namespace, entries};
use plotters::prelude::*;
use std::{fmt::Write as _, path::Path};

const SIZES: [u32; 7] = [1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000];

/// Number of flows, and the milliseconds of `conntrack` and flowgate.
type Point = (u32, f64, f64);

/// Lists tables of growing size, and writes `growth.tsv` and `growth.svg` into a directory.
pub(crate) fn run(ours: &str, rounds: u32, directory: &Path) {
    let most = SIZES.into_iter().max().unwrap_or_default();
    let _limit = Limit::of(u64::from(most));
    let points: Vec<Point> = SIZES
        .into_iter()
        .map(|flows| {
            let [theirs, ours] = Namespace::run(|namespace| {
                entries::load(namespace, &entries::busy(flows));
                let words = ["-L".to_owned()];
                measure::in_turn(["conntrack", ours].map(|program| (program, &words[..])), rounds + 1, Sink::Null)
            });
            println!("{flows:>8} flows: conntrack {:9.1} ms, flowgate {:9.1} ms, {:.2}", theirs.wall, ours.wall, {
                ours.wall / theirs.wall
            });
            println!("{:>8}        peak memory {:.1} and {:.1} MiB", "", theirs.memory, ours.memory);
            (flows, theirs.wall, ours.wall)
        })
        .collect();
    let mut table = String::from("flows\tconntrack_wall_ms\tflowgate_wall_ms\n");
    for (flows, theirs, ours) in &points {
        let _ = writeln!(table, "{flows}\t{theirs:.2}\t{ours:.2}");
    }
    report::write(&directory.join("growth.tsv"), &table);
    let picture = directory.join("growth.svg");
    draw(&points, &picture).unwrap_or_else(|error| panic!("drawing {}: {error}", picture.display()));
    println!("written to {}", picture.display());
}

/// Draws the plot; both axes are logarithmic.
fn draw(points: &[Point], path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::new(path, (720, 440)).into_drawing_area();
    root.fill(&WHITE)?;
    let most = points.iter().map(|point| point.1.max(point.2)).fold(1.0, f64::max) * 1.5;
    let mut chart = ChartBuilder::on(&root)
        .caption("Time of -L by the size of the table", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(64)
        .build_cartesian_2d((1e3..1e6f64).log_scale(), (1.0..most).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("flows")
        .y_desc("milliseconds")
        .x_label_formatter(&|value| format!("{value:.0}"))
        .y_label_formatter(&|value| format!("{value:.0}"))
        .light_line_style(WHITE)
        .draw()?;
    let series = |of: fn(&Point) -> f64| -> Vec<(f64, f64)> {
        points.iter().map(|point| (f64::from(point.0), of(point))).collect()
    };
    for (name, colour, line) in
        [("conntrack 1.4.7", RED, series(|point| point.1)), ("flowgate", BLUE, series(|point| point.2))]
    {
        chart
            .draw_series(LineSeries::new(line.clone(), colour.stroke_width(2)).point_size(3))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        chart.draw_series(line.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .border_style(BLACK)
        .background_style(WHITE)
        .draw()?;
    root.present()?;
    Ok(())
}
