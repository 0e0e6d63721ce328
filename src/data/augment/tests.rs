use super::*;
use crate::data::golden;
use crate::spec::schema::augment::{Fill, Interpolation};

const EVERYTHING: Augment = Augment {
    rotation_degrees: 30.0,
    width_shift_fraction: 0.1,
    height_shift_fraction: 0.3,
    shear_radians: 0.2,
    zoom: Some(FactorRange { lowest: 0.5, highest: 1.25 }),
    brightness: Some(FactorRange { lowest: 0.8, highest: 1.4 }),
    horizontal_flip: true,
    vertical_flip: true,
    ..Augment::NONE
};

const WAYS: [Interpolation; 2] = [Interpolation::Nearest, Interpolation::Bilinear];
const FILLS: [Fill; 4] = [Fill::Nearest, Fill::Constant, Fill::Reflect, Fill::Wrap];
const SIZES: [(u32, u32); 5] = [(1, 1), (1, 5), (6, 1), (7, 7), (8, 13)];

/// Levels that differ from pixel to pixel and between channels.
fn image(height: u32, width: u32) -> Vec<u8> {
    (0..height * width * 3).map(|i| (i * 37 % 251) as u8).collect()
}

fn applied(transform: &Transform, augment: &Augment, (height, width): (u32, u32)) -> Vec<u8> {
    let mut pixels = image(height, width);
    transform.apply(augment, height, width, &mut pixels);
    pixels
}

/// Every way to read pixels, at every size.
fn each_way(check: impl Fn(&Augment, (u32, u32))) {
    for size in SIZES {
        for interpolation in WAYS {
            for fill in FILLS {
                check(&Augment { interpolation, fill, fill_value: 90, ..Augment::NONE }, size);
            }
        }
    }
}

/// A transform in which the file names only what is not the identity's.
fn transform(value: &serde_json::Value) -> Transform {
    let number = |key: &str, otherwise: f64| value.get(key).map_or(otherwise, |value| value.as_f64().unwrap());
    let flag = |key: &str| value.get(key).is_some_and(|value| value.as_bool().unwrap());
    Transform {
        rotation_degrees: number("rotation_degrees", 0.0),
        width_shift_fraction: number("width_shift_fraction", 0.0),
        height_shift_fraction: number("height_shift_fraction", 0.0),
        shear_radians: number("shear_radians", 0.0),
        zoom_width: number("zoom_width", 1.0),
        zoom_height: number("zoom_height", 1.0),
        brightness: number("brightness", 1.0),
        horizontal_flip: flag("horizontal_flip"),
        vertical_flip: flag("vertical_flip"),
    }
}

#[test]
fn images_come_out_as_from_keras() {
    let golden = golden::json("augment_golden.json");
    let (mut n_cases, mut n_bytes, mut n_off) = (0, 0, 0);
    for case in golden["cases"].as_array().unwrap() {
        let source = &golden["sources"][case["source"].as_u64().unwrap() as usize];
        let side = |key: &str| source[key].as_u64().unwrap() as u32;
        let augment: Augment = serde_json::from_value(case["augment"].clone()).unwrap();
        let mut found = golden::base64(&source["rgb"]);
        transform(&case["transform"]).apply(&augment, side("height"), side("width"), &mut found);
        let expected = golden::base64(&case["rgb"]);
        let (largest, _) = golden::differences(&found, &expected);
        let most = if augment.interpolation == Interpolation::Nearest { 0 } else { 1 };
        assert!(largest <= most, "{}x{}: {augment:?} {}: {largest}", side("height"), side("width"), case["transform"]);
        n_cases += 1;
        n_bytes += found.len();
        n_off += found.iter().zip(&expected).filter(|(found, expected)| found != expected).count();
    }
    assert!(n_cases > 200, "{n_cases}");
    // Sums in another order round the other way only where a level lies halfway between two bytes.
    assert!(n_off * 1000 <= n_bytes, "{n_off} of {n_bytes}");
}

#[test]
fn nothing_drawn_changes_nothing() {
    each_way(|augment, (height, width)| {
        assert_eq!(Transform::draw(augment, 7, 1, 0), Transform::IDENTITY);
        assert_eq!(applied(&Transform::IDENTITY, augment, (height, width)), image(height, width));
        // The resampling itself: its matrix is the identity's.
        let mut pixels = image(height, width);
        warp::warp(&Transform::IDENTITY, augment, height as usize, width as usize, &mut pixels);
        assert_eq!(pixels, image(height, width));
    });
}

#[test]
fn flips_undo_themselves_and_together_turn_the_image_around() {
    for (height, width) in SIZES {
        let both = Transform { horizontal_flip: true, vertical_flip: true, ..Transform::IDENTITY };
        let around: Vec<u8> = image(height, width).as_chunks::<3>().0.iter().rev().flatten().copied().collect();
        assert_eq!(applied(&both, &Augment::NONE, (height, width)), around);
        for flip in [
            Transform { horizontal_flip: true, ..Transform::IDENTITY },
            Transform { vertical_flip: true, ..Transform::IDENTITY },
        ] {
            let mut pixels = applied(&flip, &Augment::NONE, (height, width));
            flip.apply(&Augment::NONE, height, width, &mut pixels);
            assert_eq!(pixels, image(height, width), "{flip:?}");
        }
    }
    let pixels = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    let mut mirrored = pixels;
    flip_horizontally(2, &mut mirrored);
    assert_eq!(mirrored, [4, 5, 6, 1, 2, 3, 10, 11, 12, 7, 8, 9]);
    let mut upside_down = pixels;
    flip_vertically(2, 2, &mut upside_down);
    assert_eq!(upside_down, [7, 8, 9, 10, 11, 12, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_full_turn_changes_nothing_and_half_a_turn_is_both_flips() {
    let turn = |rotation_degrees| Transform { rotation_degrees, ..Transform::IDENTITY };
    let both = Transform { horizontal_flip: true, vertical_flip: true, ..Transform::IDENTITY };
    for size in SIZES {
        for interpolation in WAYS {
            let augment = Augment { interpolation, ..Augment::NONE };
            assert_eq!(applied(&turn(360.0), &augment, size), image(size.0, size.1));
            assert_eq!(applied(&turn(180.0), &augment, size), applied(&both, &augment, size));
        }
    }
}

#[test]
fn a_quarter_turn_brings_the_right_edge_to_the_top() {
    let turn = Transform { rotation_degrees: 90.0, ..Transform::IDENTITY };
    let pixels = applied(&turn, &Augment::NONE, (7, 7));
    let source = image(7, 7);
    for y in 0..7 {
        for x in 0..7 {
            let from = (x * 7 + 6 - y) * 3;
            assert_eq!(pixels[(y * 7 + x) * 3..][..3], source[from..][..3], "{y} {x}");
        }
    }
}

#[test]
fn shifts_follow_their_axes_whatever_the_shape() {
    let augment = Augment { fill: Fill::Constant, fill_value: 9, ..Augment::NONE };
    let sideways = Transform { width_shift_fraction: 0.25, ..Transform::IDENTITY };
    let pixels = applied(&sideways, &augment, (3, 8));
    let source = image(3, 8);
    for y in 0..3 {
        assert_eq!(pixels[y * 24..][..18], source[y * 24 + 6..][..18]);
        assert_eq!(pixels[y * 24 + 18..][..6], [9; 6]);
    }
    let upwards = Transform { height_shift_fraction: 0.5, ..Transform::IDENTITY };
    let pixels = applied(&upwards, &augment, (4, 3));
    assert_eq!(pixels[..18], image(4, 3)[18..]);
    assert_eq!(pixels[18..], [9; 18]);
}

#[test]
fn an_image_of_one_level_keeps_it_unless_the_fill_has_another() {
    let turned = Transform::draw(&EVERYTHING, 7, 3, 11);
    let turned = Transform { brightness: 1.0, ..turned };
    each_way(|augment, (height, width)| {
        let mut pixels = vec![200; height as usize * width as usize * 3];
        turned.apply(augment, height, width, &mut pixels);
        let allowed = |byte: &u8| *byte == 200 || augment.fill == Fill::Constant && *byte == augment.fill_value;
        assert!(pixels.iter().all(allowed), "{augment:?} {height}x{width}");
    });
}

#[test]
fn draws_have_their_distributions_limits_and_moments() {
    let n = 8000;
    let draws: Vec<Transform> = (0..n).map(|sample| Transform::draw(&EVERYTHING, 7, 2, sample)).collect();
    type Value = fn(&Transform) -> f64;
    let cases: [(&str, Value, f64, f64); 7] = [
        ("rotation", |t| t.rotation_degrees, -30.0, 30.0),
        ("width shift", |t| t.width_shift_fraction, -0.1, 0.1),
        ("height shift", |t| t.height_shift_fraction, -0.3, 0.3),
        ("shear", |t| t.shear_radians, -0.2, 0.2),
        ("zoom of the width", |t| t.zoom_width, 0.5, 1.25),
        ("zoom of the height", |t| t.zoom_height, 0.5, 1.25),
        ("brightness", |t| t.brightness, 0.8, 1.4),
    ];
    // From the lowest to the highest as 0 to 1.
    let series = cases.map(|(name, value, lowest, highest)| {
        let units: Vec<f64> = draws.iter().map(|draw| (value(draw) - lowest) / (highest - lowest)).collect();
        assert!(units.iter().all(|unit| (0.0..1.0).contains(unit)), "{name}");
        let mean = units.iter().sum::<f64>() / n as f64;
        let variance = units.iter().map(|unit| (unit - mean).powi(2)).sum::<f64>() / n as f64;
        // Four standard errors of the mean and of the variance of a uniform distribution.
        assert!((mean - 0.5).abs() < 0.013 && (variance - 1.0 / 12.0).abs() < 0.0034, "{name}: {mean} {variance}");
        units
    });
    for (i, a) in series.iter().enumerate() {
        for (j, b) in series[..i].iter().enumerate() {
            let covariance = a.iter().zip(b).map(|(a, b)| (a - 0.5) * (b - 0.5)).sum::<f64>() / n as f64;
            assert!((covariance * 12.0).abs() < 0.05, "{} and {}: {covariance}", cases[i].0, cases[j].0);
        }
    }
    let share = |flip: fn(&Transform) -> bool| draws.iter().filter(|draw| flip(draw)).count() as f64 / n as f64;
    let shares = [share(|t| t.horizontal_flip), share(|t| t.vertical_flip)];
    assert!(shares.iter().all(|share| (share - 0.5).abs() < 0.023), "{shares:?}");
    let together = share(|t| t.horizontal_flip && t.vertical_flip);
    assert!((together - 0.25).abs() < 0.02, "{together}");
}

#[test]
fn a_draw_depends_on_its_address_alone() {
    let draw = |seed, epoch, sample| Transform::draw(&EVERYTHING, seed, epoch, sample);
    assert_eq!(draw(7, 1, 3), draw(7, 1, 3));
    assert_ne!(draw(7, 1, 3), draw(8, 1, 3));
    assert_ne!(draw(7, 1, 3), draw(7, 2, 3));
    assert_ne!(draw(7, 1, 3), draw(7, 1, 4));
    // What else is asked for changes nothing about it.
    let turned = Augment { rotation_degrees: 30.0, ..Augment::NONE };
    let found = Transform::draw(&turned, 7, 1, 3);
    assert_eq!(found, Transform { rotation_degrees: draw(7, 1, 3).rotation_degrees, ..Transform::IDENTITY });
}

#[test]
fn flips_stay_those_that_were_always_drawn() {
    let flip = Augment { horizontal_flip: true, ..Augment::NONE };
    let drawn = |sample| Transform::draw(&flip, 42, 1, sample).horizontal_flip;
    let found: String = (0..16).map(|sample| if drawn(sample) { 'f' } else { '-' }).collect();
    assert_eq!(found, "-ff-ff-f--f--f--");
}
