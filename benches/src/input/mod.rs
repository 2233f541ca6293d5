//! What is fed to the contenders: always the same for the same number.
//!
//! A reading has numbers, text, a time and a value that is sometimes missing: about 102 bytes as a row of CSV, about
//! 200 as a document.

use std::io::{self, BufWriter, Write};

/// The columns of a row.
pub const HEADER: &str = "station,time,n,temp,humid,pressure,wind_gust,remark\n";

/// How the documents are made of it: the arguments of `document-app`.
pub const TYPES: [&str; 4] = ["--null", "NA", "--type", "time=date"];

/// How the rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputFormat {
    Csv,
    Ndjson,
}

/// Writes readings until there are about so many bytes, and returns how many readings that are.
///
/// `first` is the number of the first one: with another number it is another file.
///
/// # Errors
///
/// They cannot be written.
pub fn readings(to: impl Write, format: InputFormat, bytes: u64, first: u64) -> io::Result<u64> {
    let mut to = BufWriter::with_capacity(1 << 20, to);
    let (mut written, mut rows, mut row) = (0, 0, Vec::with_capacity(512));
    if format == InputFormat::Csv {
        to.write_all(HEADER.as_bytes())?;
    }
    while written < bytes {
        row.clear();
        match format {
            InputFormat::Csv => csv_row(&mut row, first + rows)?,
            InputFormat::Ndjson => ndjson_row(&mut row, first + rows)?,
        }
        to.write_all(&row)?;
        written += row.len() as u64;
        rows += 1;
    }
    to.flush()?;
    Ok(rows)
}

/// Bytes that no compression makes smaller, always the same for the same number.
///
/// # Errors
///
/// They cannot be written.
pub fn noise(to: impl Write, bytes: u64, number: u64) -> io::Result<()> {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    let mut noise = blake3::Hasher::new_keyed(&seed).finalize_xof();
    io::copy(&mut io::Read::take(&mut noise, bytes), &mut BufWriter::with_capacity(1 << 20, to)).map(drop)
}

fn csv_row(to: &mut Vec<u8>, n: u64) -> io::Result<()> {
    let (day, hour, minute) = (n / 1440 % 28 + 1, n / 60 % 24, n % 60);
    write!(to, "station-{:04},2013-01-{day:02}T{hour:02}:{minute:02}:00Z,{n},", n % 1000)?;
    write!(to, "{}.02,{}.37,{}.4,", n % 90, n % 100, 980 + n % 60)?;
    if n.is_multiple_of(4) {
        write!(to, "NA")?
    } else {
        write!(to, "{}.25", n % 40)?
    }
    writeln!(to, ",read by automatic gauge {:06}", n % 999_983)
}

fn ndjson_row(to: &mut Vec<u8>, n: u64) -> io::Result<()> {
    let (day, hour, minute) = (n / 1440 % 28 + 1, n / 60 % 24, n % 60);
    write!(
        to,
        r#"{{"station":"station-{:04}","time":"2013-01-{day:02}T{hour:02}:{minute:02}:00Z","#,
        n % 1000
    )?;
    write!(to, r#""n":{n},"temp":{}.02,"humid":{}.37,"pressure":{}.4,"#, n % 90, n % 100, 980 + n % 60)?;
    if n.is_multiple_of(4) {
        write!(to, r#""wind_gust":null,"#)?;
    } else {
        write!(to, r#""wind_gust":{}.25,"#, n % 40)?;
    }
    writeln!(to, r#""remark":"read by automatic gauge {:06}"}}"#, n % 999_983)
}
