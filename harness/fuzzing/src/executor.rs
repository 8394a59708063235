//! One run of a target.

use crate::defect::{Defect, catching, without_numbers};
use crate::platform::FuzzPlatform;
use crate::program::Program;
use crate::target::Target;

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All calls were done.
    Done,
    /// The driver gave up, in order, and said why.
    Refused(String),
    /// The driver is wrong.
    Defect(Defect),
}

impl Outcome {
    /// The defect, if there is one.
    #[must_use]
    pub fn defect(&self) -> Option<&Defect> {
        match self {
            Self::Defect(defect) => Some(defect),
            _ => None,
        }
    }
}

/// Runs a target again and again, each time on a fresh device.
pub struct Executor<'t> {
    target: &'t dyn Target,
    platform: FuzzPlatform,
}

impl<'t> Executor<'t> {
    /// An executor for a target.
    ///
    /// # Errors
    /// If its model cannot be made.
    pub fn new(target: &'t dyn Target) -> Result<Self, String> {
        let mut platform = FuzzPlatform::new(target.model()?)?;
        platform.set_budget(target.budget());
        Ok(Self { target, platform })
    }

    /// The target.
    #[must_use]
    pub fn target(&self) -> &'t dyn Target {
        self.target
    }

    /// Runs a program.
    ///
    /// # Errors
    /// If the target's model cannot be made.
    pub fn run(&mut self, program: &Program) -> Result<Outcome, String> {
        self.execute(program, false).map(|(outcome, _)| outcome)
    }

    /// Runs a program and writes down what happens: the end of it, one line each.
    ///
    /// # Errors
    /// If the target's model cannot be made.
    pub fn trace(&mut self, program: &Program) -> Result<(Outcome, Vec<String>), String> {
        self.execute(program, true)
    }

    /// Runs a program without catching panics, for engines that want to see the process end.
    ///
    /// # Panics
    /// If there is a defect.
    pub fn run_or_panic(&mut self, program: &Program) {
        let started = self.target.model().and_then(|m| self.platform.restart(m, program, false));
        assert!(started.is_ok(), "{started:?}");
        let _ = self.target.drive(&mut self.platform, &program.calls);
        self.platform.end(self.target.must_free());
        let (defect, _) = self.platform.finish();
        assert!(
            defect.is_none(),
            "{}",
            defect.as_ref().map(ToString::to_string).unwrap_or_default()
        );
    }

    /// What the last run looked like: what came after what, counted.
    pub(crate) fn map(&self) -> &[u8] {
        self.platform.map()
    }

    /// Steps of the last run.
    pub(crate) fn steps(&self) -> u32 {
        self.platform.steps()
    }

    fn execute(
        &mut self,
        program: &Program,
        trace: bool,
    ) -> Result<(Outcome, Vec<String>), String> {
        self.platform.restart(self.target.model()?, program, trace)?;
        let (target, platform) = (self.target, &mut self.platform);
        let driven = catching(trace, || {
            let result = target.drive(platform, &program.calls);
            platform.end(target.must_free());
            result
        });
        let panicked = match &driven {
            Ok(_) => None,
            Err(Some(panic)) => Some(panic.clone()),
            Err(None) => {
                self.platform.overrun();
                None
            }
        };
        let (defect, trace) = self.platform.finish();
        // What the platform saw came before the panic.
        let outcome = match (defect.or(panicked), driven) {
            (Some(defect), _) => Outcome::Defect(defect),
            (None, Ok(Err(error))) => Outcome::Refused(without_numbers(&error)),
            (None, _) => Outcome::Done,
        };
        Ok((outcome, trace))
    }
}
