"""python -m services.pipelines"""

from services.pipelines.service import SERVICE
from shared.service.runner import main

if __name__ == "__main__":
    main(SERVICE)
