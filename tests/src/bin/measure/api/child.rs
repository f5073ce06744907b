//! Processes beside the one that measures: this very program, started again. Each is told and tells by lines.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};

use lab::world::{Ended, Result};
use tokio::sync::mpsc;

use super::{agents, load};

/// What a child is told, a line after the other.
pub(super) type Lines = mpsc::UnboundedReceiver<String>;

/// What a child is.
#[derive(Clone, Copy)]
pub(super) enum Part {
    /// The agents.
    Agents,
    /// Who reads and watches.
    Load,
}

impl Part {
    /// The first argument by which this program knows that it is to be this.
    const fn word(self) -> &'static str {
        match self {
            Self::Agents => "be-agents",
            Self::Load => "be-a-load",
        }
    }
}

/// Call this first in `main`.
pub(crate) fn main_if_child() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let word = arguments.next()?;
    let parts = [Part::Agents, Part::Load];
    let part = parts.into_iter().find(|part| part.word() == word)?;
    let directory = arguments.next()?;
    Some(match be(part, Path::new(&directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("measure: {word}: {error}");
            ExitCode::FAILURE
        }
    })
}

fn be(part: Part, directory: &Path) -> Result<()> {
    let (tell, words) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(|line| line.ok()) {
            // Its end is seen by who listens.
            let _gone = tell.send(line);
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match part {
            Part::Agents => agents::serve(directory, words).await,
            Part::Load => load::serve(directory, words).await,
        }
    })
}

/// Tells who started this.
pub(super) fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout();
    out.write_all(format!("{line}\n").as_bytes())?;
    Ok(out.flush()?)
}

/// A child, as its parent has it. It ends with its standard input, or with this.
pub(super) struct Beside {
    _child: Ended,
    tell: ChildStdin,
    hear: BufReader<ChildStdout>,
}

impl Beside {
    pub(super) fn start(part: Part, directory: &Path) -> Result<Self> {
        let mut child: Child = Command::new("/proc/self/exe")
            .arg(part.word())
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (tell, hear) = (child.stdin.take(), child.stdout.take());
        let child = Ended(child);
        Ok(Self {
            _child: child,
            tell: tell.ok_or("no pipe to it")?,
            hear: BufReader::new(hear.ok_or("no pipe from it")?),
        })
    }

    pub(super) fn tell(&mut self, word: &str) -> Result<()> {
        Ok(writeln!(self.tell, "{word}")?)
    }

    /// The next line that it says.
    pub(super) fn hear(&mut self) -> Result<String> {
        let mut line = String::new();
        match self.hear.read_line(&mut line)? {
            0 => Err("what was started beside has ended".into()),
            _ => Ok(line.trim().to_owned()),
        }
    }
}
