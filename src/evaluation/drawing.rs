//! Plots and headings on pictures, in the window's own font.

use image::RgbImage;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use super::EvaluationError;

const FONT: &str = "sans-serif";
const PLOT: (u32, u32) = (900, 560);
/// Told apart by eyes that cannot tell red from green, too (Okabe and Ito).
const COLOURS: [RGBColor; 4] = [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115), RGBColor(204, 121, 167)];

/// A name and its points.
pub type Curve<'a> = (&'a str, Vec<(f64, f64)>);

fn failed(error: impl std::fmt::Display) -> EvaluationError {
    EvaluationError::Drawing(error.to_string())
}

fn use_font() -> Result<(), EvaluationError> {
    register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT).map_err(|_| failed("the font cannot be read"))
}

/// Curves over a common axis; the vertical one is logarithmic. Points that are not positive have no place on it and are left out.
pub fn log_plot(title: &str, x_label: &str, y_label: &str, curves: &[Curve]) -> Result<RgbImage, EvaluationError> {
    use_font()?;
    let shown = || curves.iter().flat_map(|(_, points)| points.iter().copied()).filter(|(x, y)| x.is_finite() && *y > 0.0 && y.is_finite());
    let extent = |value: fn((f64, f64)) -> f64| {
        shown().map(value).fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
    };
    let ((left, right), (low, high)) = (extent(|(x, _)| x), extent(|(_, y)| y));
    // Without points, the extent is turned inside out.
    if left >= right || low > high {
        return Err(failed("there is nothing to plot"));
    }
    let mut pixels = vec![0; (PLOT.0 * PLOT.1 * 3) as usize];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, PLOT).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, (FONT, 26))
            .margin(14)
            .x_label_area_size(44)
            .y_label_area_size(84)
            .build_cartesian_2d(left..right, (low / 1.5..high * 1.5).log_scale())
            .map_err(failed)?;
        let (whole, power) = (|value: &f64| format!("{value:.0}"), |value: &f64| format!("{value:.0e}"));
        let style = (FONT, 17);
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_desc(x_label)
            .y_desc(y_label)
            .x_label_formatter(&whole)
            .y_label_formatter(&power)
            .label_style(style)
            .axis_desc_style(style)
            .draw()
            .map_err(failed)?;
        for ((name, points), colour) in curves.iter().zip(COLOURS.iter().cycle()) {
            let points = points.iter().copied().filter(|(_, y)| *y > 0.0);
            let line = LineSeries::new(points, colour.stroke_width(3));
            let key = move |(x, y): (i32, i32)| PathElement::new(vec![(x, y), (x + 24, y)], colour.stroke_width(3));
            chart.draw_series(line).map_err(failed)?.label(*name).legend(key);
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.9))
            .border_style(BLACK)
            .label_font(style)
            .draw()
            .map_err(failed)?;
        area.present().map_err(failed)?;
    }
    RgbImage::from_raw(PLOT.0, PLOT.1, pixels).ok_or_else(|| failed("the plot has another size than its pixels"))
}

/// Words centred at points of a picture, `(x, y)` in pixels.
pub fn write_words(picture: RgbImage, words: &[(String, (i32, i32))], size: u32) -> Result<RgbImage, EvaluationError> {
    use plotters::style::text_anchor::{HPos, Pos, VPos};
    use_font()?;
    let (width, height) = picture.dimensions();
    let mut pixels = picture.into_raw();
    {
        let area = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
        let style = TextStyle::from((FONT, size)).pos(Pos::new(HPos::Center, VPos::Center));
        for (text, place) in words {
            area.draw_text(text, &style, *place).map_err(failed)?;
        }
        area.present().map_err(failed)?;
    }
    RgbImage::from_raw(width, height, pixels).ok_or_else(|| failed("the picture has another size than its pixels"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_where_they_were_put() {
        let white = RgbImage::from_pixel(200, 60, image::Rgb([255; 3]));
        let picture = write_words(white, &[("Smile".into(), (150, 30))], 20).unwrap();
        let dark = |x: std::ops::Range<u32>| {
            x.flat_map(|x| (0..60).map(move |y| (x, y))).filter(|&(x, y)| picture.get_pixel(x, y).0[0] < 100).count()
        };
        assert!(dark(100..200) > 20);
        assert_eq!(dark(0..100), 0);
    }

    #[test]
    fn nothing_to_plot_is_an_error_and_no_panic() {
        for points in [vec![], vec![(1.0, 0.0)], vec![(1.0, 1.0)], vec![(1.0, f64::NAN), (2.0, -1.0)]] {
            assert!(log_plot("t", "x", "y", &[("a", points)]).is_err());
        }
    }
}
