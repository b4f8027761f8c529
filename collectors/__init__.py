"""The contract of Outstation's layers: interfaces, models, enumerations, and mocks to test against."""
