//! Times decoding and resizing of one image file, as `benches/peers/decode_pillow.py` does it with Pillow.
//!
//!     cargo bench --bench decode -- FILE

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use xp::data::decode::decode;
use xp::data::resize::resize;
use xp::spec::schema::data::Resize;

const SIDE: u32 = 224;
const N_WARM_UP: usize = 20;
const N_TIMED: usize = 200;

fn main() -> Result<(), Box<dyn Error>> {
    // Cargo adds `--bench`.
    let path = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let bytes = std::fs::read(path.ok_or("an image file must be named")?)?;
    let mut times_ms = Vec::with_capacity(N_TIMED);
    for i in 0..N_WARM_UP + N_TIMED {
        let began = Instant::now();
        let decoded = decode(black_box(&bytes))?;
        black_box(resize(&decoded.image, SIDE, SIDE, Resize::Bicubic));
        if i >= N_WARM_UP {
            times_ms.push(began.elapsed().as_secs_f64() * 1e3);
        }
    }
    times_ms.sort_by(f64::total_cmp);
    println!("{{\"median_ms\": {:.4}, \"n\": {N_TIMED}}}", times_ms[N_TIMED / 2]);
    Ok(())
}
