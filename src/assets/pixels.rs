//! Pictures from pixels: they are stored as PNG.

use crate::error::{Error, Result};

/// The PNG of rows of pixels: one byte a pixel (gray), three (RGB) or four (RGBA). Equal pixels give equal bytes.
pub(super) fn png(width: usize, height: usize, channels: usize, pixels: &[u8]) -> Result<Vec<u8>> {
    let colour = match channels {
        1 => png::ColorType::Grayscale,
        3 => png::ColorType::Rgb,
        4 => png::ColorType::Rgba,
        _ => {
            return Err(Error::usage(format!("an image cannot have {channels} bytes a pixel"))
                .with_hint("the number of channels is 1 (gray), 3 (RGB) or 4 (RGBA)"));
        }
    };
    let expected = width.checked_mul(height).and_then(|n| n.checked_mul(channels));
    let (Ok(w), Ok(h), true) = (u32::try_from(width), u32::try_from(height), expected == Some(pixels.len())) else {
        return Err(Error::usage(format!(
            "an image of {width} × {height} pixels with {channels} bytes each does not have {} bytes",
            pixels.len()
        )));
    };
    let failed = |e: png::EncodingError| {
        Error::usage(format!("cannot write an image of {width} × {height} pixels as PNG")).with_source(e)
    };
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, w, h);
    encoder.set_color(colour);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(pixels).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(out)
}
