//! Networks that run: types, weights, several inputs, many runs, many users.

use super::{Card, USER, activate, booted, doubles, doubling, floats, load, program};
use crate::verdict::{expect_bytes, expect_eq};
use crate::{Check, Context, Outcome};

crate::checks::group!("qaic/compute":
    [1, "A network of 32-bit floats gives what its arithmetic says", "ONNX Add; Understudy docs, networks in containers", |ctx| gives(ctx, program::DOUBLE_F32, &[floats(&[1.5, -2.0, 1e30, 0.0])], &floats(&[3.0, -4.0, 2e30, 0.0]))],
    [2, "A network of 16-bit floats", "ONNX Add; IEEE 754 binary16", |ctx| gives(ctx, program::DOUBLE_F16, &[halves(&[0x3c00, 0xc000, 0x0001, 0x7bff])], &halves(&[0x4000, 0xc400, 0x0002, 0x7c00]))],
    [3, "A network of signed bytes", "ONNX Add (int8)", |ctx| gives(ctx, program::DOUBLE_I8, &[vec![1, 0xff, 63, 0xc0]], &[2, 0xfe, 126, 0x80])],
    [4, "A network of two inputs", "ONNX Div (int32)", |ctx| gives(ctx, program::DIVIDE_I32, &[words(&[7, -9]), words(&[2, 3])], &words(&[3, -3]))],
    [5, "A network with weights", "ONNX MatMul", |ctx| gives(ctx, program::MATMUL_F32, &[floats(&[1.0, 2.0, 4.0])], &floats(&[-4.0, 7.0]))],
    [6, "Many runs, one after the other, each with its own inputs", "Linux qaic_data.c, qaic_execute_bo_ioctl", many_runs],
    [7, "Networks of several users run side by side", "Linux Documentation/accel/qaic/aic100.rst, Hardware Description (workloads)", side_by_side],
    [8, "A network that cannot be computed stops alone, and can be activated anew", "Linux qaic_ssr.c (subsystem restart); ONNX Div", stops_alone],
    [9, "A program that is activated twice runs twice", "QNncProtocol.h, nnc_cmd_activate_request_t (elf id)", twice],
    [10, "Vectors or polling make no difference to results", "Linux qaic_data.c, datapath_polling", vectors],
);

fn halves(bits: &[u16]) -> Vec<u8> {
    bits.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn words(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// One output of a network that is loaded and activated for this.
fn gives(ctx: &Context<'_>, network: &[u8], inputs: &[Vec<u8>], wanted: &[u8]) -> Outcome {
    let mut card = booted(ctx)?;
    let id = load(&mut card, USER, network)?;
    let active = activate(&mut card, USER, id, 16)?;
    let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
    for _ in 0..3 {
        let found = card.infer(&active, &inputs, &[wanted.len()])?;
        expect_bytes("the output", &found.concat(), wanted)?;
    }
    Ok(())
}

fn many_runs(ctx: &mut Context<'_>) -> Outcome {
    let (mut card, active) = doubling(ctx)?;
    for step in 0..100_u8 {
        let x = [f32::from(step), 0.5, -1.0, 3.0];
        let found = card.infer(&active, &[&floats(&x)], &[16])?;
        expect_bytes("the output", &found.concat(), &floats(&x.map(|value| value * 2.0)))?;
    }
    Ok(())
}

fn side_by_side(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    let mut networks = Vec::new();
    for user in 1..=6_u8 {
        let program = if user % 2 == 0 { program::DIVIDE_I32 } else { program::DOUBLE_F32 };
        let id = load(&mut card, user.into(), program)?;
        networks.push((user, activate(&mut card, user.into(), id, 16)?));
    }
    for round in 1..10_u8 {
        for (user, active) in &networks {
            if user % 2 == 0 {
                let (a, b) = (words(&[i32::from(round) * 60, 7]), words(&[i32::from(*user), 7]));
                let wanted = words(&[i32::from(round) * 60 / i32::from(*user), 1]);
                let found = card.infer(active, &[&a, &b], &[8])?;
                expect_bytes("the quotients", &found.concat(), &wanted)?;
            } else {
                let x = f32::from(round) + f32::from(*user);
                let found = card.infer(active, &[&floats(&[x; 4])], &[16])?;
                expect_bytes("the doubles", &found.concat(), &floats(&[x * 2.0; 4]))?;
            }
        }
    }
    Ok(())
}

fn stops_alone(ctx: &mut Context<'_>) -> Outcome {
    let (mut card, good) = doubling(ctx)?;
    let id = load(&mut card, 2, program::DIVIDE_I32)?;
    let bad = activate(&mut card, 2, id, 16)?;
    let divide = |card: &mut Card, active, b: [i32; 2]| {
        card.infer(active, &[&words(&[7, 9]), &words(&b)], &[8])
    };
    let first = divide(&mut card, &bad, [2, 3])?;
    expect_bytes("the quotients", &first.concat(), &words(&[3, 3]))?;
    let host = super::bridge::buffer(&mut card, 64)?;
    let zero = understudy_client::qaic::Request {
        id: 1,
        command: 0x19,
        source: host.iova,
        destination: bad.memory + 4096,
        len: 8,
        semaphores: [understudy_client::qaic::sem::post(2, 0, 0), 0, 0, 0],
        ..Default::default()
    };
    card.submit(&bad, &[zero])?;
    doubles(&mut card, &good)?;
    expect_eq("the status of a deactivation", &card.deactivate(2, bad)?, &0)?;
    let again = activate(&mut card, 2, id, 16)?;
    let found = divide(&mut card, &again, [2, 3])?;
    expect_bytes("the quotients", &found.concat(), &words(&[3, 3]))?;
    doubles(&mut card, &good)
}

fn twice(ctx: &mut Context<'_>) -> Outcome {
    let (mut card, first) = doubling(ctx)?;
    let id = load(&mut card, USER, program::MATMUL_F32)?;
    let networks = [activate(&mut card, USER, id, 16)?, activate(&mut card, USER, id, 16)?];
    for step in 1..6_u8 {
        for active in &networks {
            let x = f32::from(step);
            let found = card.infer(active, &[&floats(&[x, 0.0, 0.0])], &[8])?;
            expect_bytes("the product", &found.concat(), &floats(&[x, x * -2.0]))?;
        }
        doubles(&mut card, &first)?;
    }
    Ok(())
}

fn vectors(ctx: &mut Context<'_>) -> Outcome {
    for vectors in [0, 1, 32] {
        let mut card = super::card_with(ctx, vectors)?;
        card.power_up()?;
        let id = load(&mut card, USER, program::DOUBLE_F32)?;
        let active = activate(&mut card, USER, id, 64)?;
        for _ in 0..10 {
            doubles(&mut card, &active)
                .map_err(|stop| stop.during(&format!("{vectors} vectors")))?;
        }
    }
    Ok(())
}
