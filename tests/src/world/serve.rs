//! A `squall serve` that a test has started.

use super::Result;
use std::io::{BufRead, BufReader};
use std::process::Child;

/// Waits until it says that it serves; its standard error is a pipe. What it says afterwards is for nobody, but must go somewhere.
///
/// # Errors
/// It ends without having said so; with what it said instead.
pub fn until_it_serves(child: &mut Child) -> Result<()> {
    let said = child.stderr.take().ok_or("its standard error is no pipe")?;
    let mut said = BufReader::new(said);
    let mut all = String::new();
    let mut line = String::new();
    while said.read_line(&mut line)? > 0 {
        if line.contains("serving on") {
            std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
            return Ok(());
        }
        all.push_str(&line);
        line.clear();
    }
    Err(format!("it does not serve: {all}").into())
}
