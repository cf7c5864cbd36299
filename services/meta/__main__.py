"""python -m services.meta"""

from services.meta.service import SERVICE
from shared.service.runner import main

if __name__ == "__main__":
    main(SERVICE)
