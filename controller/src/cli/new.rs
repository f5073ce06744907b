//! `squall new`.

use super::{BAD_INPUT, say};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to write it; standard output where nothing is said. A file that is there is left alone
    file: Option<PathBuf>,
}

/// What a person starts from; a test checks that it is good.
const TEMPLATE: &str = include_str!("template.yaml");

/// Why it was not written.
#[derive(Debug, thiserror::Error)]
#[error("`{}` cannot be written", path.display())]
struct Unwritten {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

pub(super) fn new(args: &Args) -> ExitCode {
    let Some(path) = &args.file else {
        say::out!("{}", TEMPLATE.trim_end());
        return ExitCode::SUCCESS;
    };
    let file = std::fs::File::create_new(path);
    match file.and_then(|mut file| file.write_all(TEMPLATE.as_bytes())) {
        Ok(()) => {
            say::err!(
                "wrote {}; next: squall check {}",
                path.display(),
                path.display()
            );
            ExitCode::SUCCESS
        }
        Err(source) => {
            let path = path.clone();
            say::failed(BAD_INPUT, &Unwritten { path, source })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_a_good_experiment_without_a_warning() {
        let reading = squall_experiments::language::read("template.yaml", TEMPLATE);
        let said = reading.render(TEMPLATE, squall_experiments::language::Colour::Never);
        assert!(
            reading.experiment.is_some() && reading.diagnostics.is_empty(),
            "{said}"
        );
    }
}
