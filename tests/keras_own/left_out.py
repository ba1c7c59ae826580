"""Which of Keras' own tests our layers do not pass, and why: each of these has to fail.

A pattern stands for `file::Class::test`, as `fnmatch` understands it. The lists are those of Keras
3.15.
"""

from __future__ import annotations

QUANTISATION = "quantisation is had from the plain model"
LORA = "LoRA is had from the plain model"
MESSAGE = "the same refusal in other words"

DENSE: dict[str, str] = {
    "dense_test::*_awq_*": QUANTISATION,
    "dense_test::*_gptq_*": QUANTISATION,
    "dense_test::*_int4_*": QUANTISATION,
    "dense_test::*::test_dense_int8_*": QUANTISATION,
    "dense_test::*::test_dense_quantize_config*": QUANTISATION,
    "dense_test::*::test_quantize_by_setting_dtype_policy*": QUANTISATION,
    "dense_test::*::test_quantize_dtype_argument*": QUANTISATION,
    "dense_test::*::test_quantize_float8*": QUANTISATION,
    "dense_test::*::test_quantize_int_*": QUANTISATION,
    "dense_test::*::test_quantize_invalid_mode*": QUANTISATION,
    "dense_test::*::test_quantize_on_subclass*": QUANTISATION,
    "dense_test::*::test_quantize_when_already_quantized*": QUANTISATION,
    "einsum_dense_test::*_awq_*": QUANTISATION,
    "einsum_dense_test::*_gptq_*": QUANTISATION,
    "einsum_dense_test::*_int4_*": QUANTISATION,
    "einsum_dense_test::*::test_quantize_[!o]*": QUANTISATION,
    "einsum_dense_test::*::test_quantize_on_subclass*": QUANTISATION,
    "einsum_dense_test::*::test_einsum_dense_*int8*": QUANTISATION,
    "einsum_dense_test::*::test_einsum_dense_quantize_*": QUANTISATION,
    "*dense_test::*::test_legacy_load_own_variables": QUANTISATION,
    "dense_test::*lora*": LORA,
    "einsum_dense_test::*lora*": LORA,
    "dense_test::*::test_dense_invalid_units_raises_*": MESSAGE,
    "einsum_dense_test::*::test_einsum_dense_constraints": "inputs of a rank without meaning",
}

CONV: dict[str, str] = {
    "conv_test::*lora*": LORA,
    "*::test_bad_init_args": MESSAGE,
}

ATTENTION: dict[str, str] = {
    "*::test_dtype_policy_map": QUANTISATION,
    "*::test_quantize_int8": QUANTISATION,
    "*::test_lora": LORA,
    "*::test_invalid_scalar_args_rejected": MESSAGE,
    "*::test_multi_head_attention_output_shape_error": MESSAGE,
}

FUSED = "the fused loops of cuDNN ask for Keras' own class, and fall back to two loops"

RECURRENT: dict[str, str] = {
    "bidirectional_test::*::test_fused_gru_eligibility": FUSED,
    "bidirectional_test::*::test_fused_lstm_eligibility": FUSED,
}

MODELS: dict[str, str] = {
    "model_test::*::test_quantize_[fn]*": QUANTISATION,
    "model_test::*::test_quantize_int8": QUANTISATION,
    "model_test::*::test_quantize_with_filters_*": QUANTISATION,
}

TRAINING: dict[str, str] = {}

SAVING: dict[str, str] = {
    "saving_lib_test::*::test_h5_io_store_lora": LORA,
    "saving_lib_test::*::test_legacy_load_skips_missing_nested_containers": "a file is not there",
    "layer_test::*::test_gptq_quantization_by_setting_dtype": QUANTISATION,
    "layer_test::*::test_quantized_layer_with_remat": QUANTISATION,
    "layer_test::*::test_serialize_dtype": QUANTISATION,
    "layer_test::*::test_trainable_init_arg_validation": MESSAGE,
    "layer_test::*::test_serialize_activity_regularizer": "the config says None, as convolutions'",
}
