"""What scripts/drift runs with other versions than the locked ones."""

DRIFT = frozenset(
    {
        *("test_models_adapters", "test_models_backbone", "test_models_encode", "test_models_families"),
        *("test_models_generate", "test_models_log_probs", "test_models_vision"),
        *("test_training_sft", "test_training_oracle", "test_distributed"),
        *("test_local", "test_reward_model", "test_chat", "test_batch_api", "test_decisions"),
        *("test_judging_cli", "test_judging_cli_again"),
        *("test_package", "test_columns", "test_checks", "test_trl", "test_publish", "test_network", "test_tfrecord"),
        *("test_cli", "test_cli_program", "test_cli_training", "test_remote", "test_user_table", "test_parquet"),
        *("test_api", "test_reporting_page", "test_labelling_app", "test_classification", "test_length"),
        *("test_agreement_coefficients",),
    }
)
"""Modules whose tests lean on other packages, by name, wherever they lie."""
