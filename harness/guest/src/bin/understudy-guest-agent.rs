//! The agent alone, for tests of this crate; `understudy` itself is the agent elsewhere.

use std::process::ExitCode;

fn main() -> ExitCode {
    if understudy_guest::agent::is_agent() {
        return understudy_guest::agent::main();
    }
    eprintln!("this program runs as the first process of a guest");
    ExitCode::FAILURE
}
