//! Program containers.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct QaicArgs {
    #[command(subcommand)]
    pub(crate) command: QaicCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QaicCommand {
    /// Put an ONNX model into a container in the vendor's format.
    ///
    /// The network is loaded first, as the device would: what it would refuse is not packed.
    #[command(after_help = "\
Examples:
  understudy qaic pack classifier.onnx
      Writes classifier.qpc.
  understudy qaic pack model.onnx -o program.bin --name classifier")]
    Pack(QaicPackArgs),
    /// Show what is in a container, and whether the device would take it.
    ///
    /// Takes an ELF program or an ONNX model as well. Ends with exit code 1 if the device would
    /// refuse it.
    #[command(after_help = "\
Examples:
  understudy qaic show classifier.qpc
  understudy qaic show classifier.qpc --json | jq .inputs")]
    Show {
        /// The container.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Print JSON instead of tables.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct QaicPackArgs {
    /// The model. Its inputs have fixed sizes.
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,

    /// Where to [default: the model's name with the extension qpc].
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// The network's name in the container [default: the model's file name].
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
}
