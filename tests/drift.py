"""What scripts/drift runs with other versions than the locked ones."""

DRIFT = frozenset(
    {
        *("test_models_adapters", "test_models_backbone", "test_models_encode", "test_models_families"),
        *("test_models_generate", "test_models_log_probs", "test_models_vision"),
        *("test_train_sft", "test_train_oracle", "test_train_processes"),
        *("test_local", "test_reward", "test_chat", "test_batch", "test_judges_cli"),
        *("test_package", "test_columns", "test_trl", "test_publish", "test_network", "test_tfrecord"),
        *("test_cli", "test_cli_program", "test_cli_training", "test_remote", "test_sheets", "test_tables"),
        *("test_report_page", "test_annotate_app", "test_classification", "test_agreement", "test_length"),
    }
)
"""Modules whose tests lean on other packages, by name, wherever they lie."""
