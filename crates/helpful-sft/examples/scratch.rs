//! `cargo xtask COMMAND`
use std::path::PathBuf;


fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config: helpful_sft::pretrain::PretrainConfig =
        serde_yaml::from_str(&std::fs::read_to_string(std::env::args().nth(1).unwrap())?)?;
    let constitution =
        cai_data::constitution::Constitution::read(&PathBuf::from("configs/constitution.yaml"))?;
    let out = PathBuf::from(std::env::args().nth(2).unwrap());
    let report = helpful_sft::pretrain::run(
        &config,
        &constitution,
        &out.join("work"),
        &out.join("model"),
        &cai_model::device::parse("cpu")?,
    )?;
    println!("{:?} {}", report.metrics, report.seconds);
    Ok(())
}
